package client_test

import (
	"archive/tar"
	"context"
	"net"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Where the test cluster keeps containerd and its client.
const (
	envContainerd = "BERTH_CONTAINERD"
	envCtr        = "BERTH_CTR"
)

const containerdConfig = `
version = 3
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp", "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.blockfile",
]
[grpc]
  address = "%[1]s/sock"
[ttrpc]
  address = "%[1]s/ttrpc"
`

// containerd is the daemon that nodes have, and ctr, which makes it pull and push.
func containerd() client {
	none := "it lists, copies and deletes nothing in registries"
	return client{
		name: "containerd", authority: "`hosts.toml`",
		prepare: startContainerd,
		cells: images{
			pull: func(s *scene, image string, want v1.Image) {
				s.ctr("images", "pull", "--hosts-dir", s.file("hosts"), "--user", "any:"+s.token, image)
				if digest := digestOf(s, want); !strings.Contains(s.ctr("images", "list", "name=="+image), digest) {
					s.Errorf("it does not have '%s'", digest)
				}
			},
			push: func(s *scene, image string) string {
				dir, digest := s.layout(image)
				archive := dir + ".tar"
				s.pack(dir, archive)
				s.ctr("images", "import", archive)
				s.ctr("images", "push", "--hosts-dir", s.file("hosts"), "--user", "any:"+s.token, image)
				return digest
			},
		}.cells(),
		cannot: map[operation]string{list: none, copies: none, remove: none},
	}
}

// startContainerd starts the daemon, which must be root to unpack layers, and writes hosts.toml.
func startContainerd(s *scene) {
	if os.Geteuid() != 0 {
		s.Skip("SKIPPED: containerd needs root")
	}
	program := s.Program(envContainerd, "containerd", byMake)
	s.Program(envCtr, "ctr", byMake)
	s.Write(s.root+"/hosts/"+s.host+"/hosts.toml", `server = "https://`+s.host+`"`+"\n"+`ca = "`+s.Authority.File+`"`+"\n")
	config := s.Write(s.root+"/containerd.toml", strings.ReplaceAll(containerdConfig, "%[1]s", s.home))
	daemon := s.Start("containerd", program, "--config", config, "--log-level", "warn")
	s.Eventually("containerd to answer", func(ctx context.Context) error {
		if !daemon.Running() {
			s.Fatalf("containerd ended:\n%s", daemon.Log())
		}
		connection, err := (&net.Dialer{}).DialContext(ctx, "unix", s.file("sock"))
		if err != nil {
			return err
		}
		return connection.Close()
	})
}

func (s *scene) ctr(args ...string) string {
	s.Helper()
	return s.command("", s.Program(envCtr, "ctr", byMake), append([]string{"--address", s.file("sock"), "--namespace", "default"}, args...)...)
}

// pack makes a tar of a folder.
func (s *scene) pack(dir, archive string) {
	s.Helper()
	file, err := os.Create(archive)
	s.OK(err)
	writer := tar.NewWriter(file)
	s.OK(writer.AddFS(os.DirFS(dir)))
	s.OK(writer.Close())
	s.OK(file.Close())
}
