package client_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// envClients is the directory of those clients that `make` builds.
const envClients = "BERTH_CLIENTS"

const (
	byMake   = "run this through `make`"
	byDebian = "as root, run: apt-get install --no-install-recommends skopeo buildah"
)

// clients is the table.
func clients() []client {
	return []client{containerd(), crane(), skopeo(), buildah(), regctl(), helm(), oras(), orasGo()}
}

// command runs a client to its end, with a home of its own and no proxy, and returns what it prints.
func (s *scene) command(stdin, program string, args ...string) string {
	s.Helper()
	cmd := exec.CommandContext(s.Context(), program, args...)
	cmd.Dir, cmd.Stdin = s.home, strings.NewReader(stdin)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.home, "TMPDIR=" + s.home, "XDG_RUNTIME_DIR=" + s.home,
		"SSL_CERT_FILE=" + s.environmentAuthority(program), "DOCKER_CONFIG=" + s.home, "REGCTL_CONFIG=" + s.file("regctl.json"),
	}
	out, err := cmd.Output()
	if err != nil {
		var said []byte
		if failed, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output returns it as it is
			said = failed.Stderr
		}
		s.Fatalf("%s %s: %v\n%s%s", filepath.Base(program), strings.Join(args, " "), err, out, said)
	}
	return string(out)
}

// environmentAuthority is the authority for the one client that is told by the environment; no other may profit.
func (s *scene) environmentAuthority(program string) string {
	if filepath.Base(program) == "crane" {
		return s.Authority.File
	}
	return os.DevNull
}

func (s *scene) file(name string) string { return filepath.Join(s.home, name) }

// layout writes an image as an OCI layout, by the tag v1 and a name, and returns where, and its digest.
func (s *scene) layout(name string) (dir, digest string) {
	s.Helper()
	dir = s.file("layout")
	image := s.image()
	path, err := layout.Write(dir, empty.Index)
	s.OK(err)
	s.OK(path.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1", "io.containerd.image.name": name})))
	return dir, digestOf(s, image)
}

// laidOut sees that a layout has the image, whole.
func (s *scene) laidOut(dir string, want v1.Image) {
	s.Helper()
	path, err := layout.FromPath(dir)
	s.OK(err)
	digest, err := want.Digest()
	s.OK(err)
	image, err := path.Image(digest)
	s.OK(err)
	layers, err := image.Layers()
	s.OK(err)
	for _, layer := range layers {
		content, err := layer.Compressed()
		s.OK(err)
		got, _, err := v1.SHA256(content)
		s.OK(err)
		named, err := layer.Digest()
		s.OK(err)
		if got != named {
			s.Errorf("the layer '%s' has the digest '%s'", named, got)
		}
	}
}

func crane() client {
	var program string
	return client{
		name: "crane", authority: "`SSL_CERT_FILE`",
		prepare: func(s *scene) {
			program = s.Program(envClients, "crane", byMake)
			s.command(s.token, program, "auth", "login", s.host, "--username", "any", "--password-stdin")
		},
		cells: images{
			pull: func(s *scene, image string, want v1.Image) {
				s.command("", program, "pull", "--format", "oci", image, s.file("pulled"))
				s.laidOut(s.file("pulled"), want)
			},
			push: func(s *scene, image string) string {
				dir, digest := s.layout(image)
				s.command("", program, "push", dir, image)
				return digest
			},
			list: func(s *scene, repository string) []string {
				return strings.Fields(s.command("", program, "ls", repository))
			},
			copy:   func(s *scene, from, to string) { s.command("", program, "copy", from, to) },
			delete: func(s *scene, repository, digest string) { s.command("", program, "delete", repository+"@"+digest) },
		}.cells(),
	}
}

func skopeo() client {
	const program = "skopeo"
	do := func(s *scene, verb string, args ...string) string {
		s.Helper()
		return s.command("", program, append([]string{"--insecure-policy", verb, "--authfile", s.file("auth.json")}, args...)...)
	}
	return client{
		name: "skopeo", authority: "`--cert-dir`, or `/etc/containers/certs.d/HOST`",
		prepare: func(s *scene) {
			s.Program("", program, byDebian)
			s.command(s.token, program, "login", "--authfile", s.file("auth.json"), "--cert-dir", s.Authority.Dir, "--username", "any", "--password-stdin", s.host)
		},
		cells: images{
			pull: func(s *scene, image string, want v1.Image) {
				do(s, "copy", "--src-cert-dir", s.Authority.Dir, "docker://"+image, "oci:"+s.file("pulled")+":v1")
				s.laidOut(s.file("pulled"), want)
			},
			push: func(s *scene, image string) string {
				dir, digest := s.layout(image)
				do(s, "copy", "--dest-cert-dir", s.Authority.Dir, "oci:"+dir+":v1", "docker://"+image)
				return digest
			},
			list: func(s *scene, repository string) []string {
				var found struct{ Tags []string }
				s.OK(json.Unmarshal([]byte(do(s, "list-tags", "--cert-dir", s.Authority.Dir, "docker://"+repository)), &found))
				return found.Tags
			},
			copy: func(s *scene, from, to string) {
				do(s, "copy", "--src-cert-dir", s.Authority.Dir, "--dest-cert-dir", s.Authority.Dir, "docker://"+from, "docker://"+to)
			},
			delete: func(s *scene, repository, digest string) {
				do(s, "delete", "--cert-dir", s.Authority.Dir, "docker://"+repository+"@"+digest)
			},
		}.cells(),
	}
}

func buildah() client {
	const program = "buildah"
	do := func(s *scene, verb string, args ...string) string {
		s.Helper()
		stored := []string{"--root", s.file("storage"), "--runroot", s.file("run"), "--storage-driver", "vfs", verb}
		return s.command("", program, append(stored, args...)...)
	}
	local := "it lists, copies and deletes only what it has pulled"
	return client{
		name: "buildah", authority: "`--cert-dir`, or `/etc/containers/certs.d/HOST`",
		prepare: func(s *scene) {
			s.Program("", program, byDebian)
			s.Write(s.root+"/policy.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
			s.command(s.token, program, "login", "--authfile", s.file("auth.json"), "--cert-dir", s.Authority.Dir, "--username", "any", "--password-stdin", s.host)
		},
		cells: images{
			pull: func(s *scene, image string, want v1.Image) {
				id := do(s, "pull", "--signature-policy", s.file("policy.json"), "--authfile", s.file("auth.json"), "--cert-dir", s.Authority.Dir, "--quiet", image)
				config, err := want.ConfigName()
				s.OK(err)
				if strings.TrimSpace(id) != config.Hex {
					s.Errorf("it pulled '%s', want '%s'", strings.TrimSpace(id), config.Hex)
				}
			},
			push: func(s *scene, image string) string {
				dir, _ := s.layout(image)
				id := strings.TrimSpace(do(s, "pull", "--signature-policy", s.file("policy.json"), "--authfile", s.file("auth.json"), "--quiet", "oci:"+dir+":v1"))
				do(s, "push", "--signature-policy", s.file("policy.json"), "--authfile", s.file("auth.json"), "--cert-dir", s.Authority.Dir,
					"--digestfile", s.file("digest"), id, "docker://"+image)
				digest, err := os.ReadFile(s.file("digest"))
				s.OK(err)
				return strings.TrimSpace(string(digest))
			},
		}.cells(),
		cannot: map[operation]string{list: local, copies: local, remove: local},
	}
}

func regctl() client {
	var program string
	return client{
		name: "regctl", authority: "`regctl registry set --cacert`",
		prepare: func(s *scene) {
			program = s.Program(envClients, "regctl", byMake)
			s.command("", program, "registry", "set", s.host, "--cacert", string(s.Authority.PEM), "--skip-check")
			s.command(s.token, program, "registry", "login", s.host, "--user", "any", "--pass-stdin")
		},
		cells: images{
			pull: func(s *scene, image string, want v1.Image) {
				s.command("", program, "image", "copy", image, "ocidir://"+s.file("pulled")+":v1")
				s.laidOut(s.file("pulled"), want)
			},
			push: func(s *scene, image string) string {
				dir, digest := s.layout(image)
				s.command("", program, "image", "copy", "ocidir://"+dir+":v1", image)
				return digest
			},
			list: func(s *scene, repository string) []string {
				return strings.Fields(s.command("", program, "tag", "ls", repository))
			},
			copy: func(s *scene, from, to string) { s.command("", program, "image", "copy", from, to) },
			delete: func(s *scene, repository, digest string) {
				s.command("", program, "manifest", "delete", repository+"@"+digest)
			},
		}.cells(),
	}
}

func oras() client {
	var program string
	return client{
		name: "oras", authority: "`--ca-file`",
		prepare: func(s *scene) {
			program = s.Program(envClients, "oras", byMake)
			s.command(s.token, program, "login", s.host, "--ca-file", s.Authority.File, "--username", "any", "--password-stdin")
		},
		cells: images{
			pull: func(s *scene, image string, want v1.Image) {
				s.command("", program, "copy", "--from-ca-file", s.Authority.File, "--to-oci-layout", image, s.file("pulled")+":v1")
				s.laidOut(s.file("pulled"), want)
			},
			push: func(s *scene, image string) string {
				s.Write(s.root+"/artifact.txt", "an artifact")
				printed := s.command("", program, "push", "--ca-file", s.Authority.File, "--format", "json", image, "artifact.txt:text/plain")
				var pushed struct{ Digest string }
				s.OK(json.Unmarshal([]byte(printed), &pushed))
				pulled := s.file("artifact")
				s.command("", program, "pull", "--ca-file", s.Authority.File, "--output", pulled, image)
				if got, err := os.ReadFile(filepath.Join(pulled, "artifact.txt")); err != nil || string(got) != "an artifact" {
					s.Errorf("the artifact came back as '%s': %v", got, err)
				}
				return pushed.Digest
			},
			list: func(s *scene, repository string) []string {
				return strings.Fields(s.command("", program, "repo", "tags", "--ca-file", s.Authority.File, repository))
			},
			copy: func(s *scene, from, to string) {
				s.command("", program, "copy", "--from-ca-file", s.Authority.File, "--to-ca-file", s.Authority.File, from, to)
			},
			delete: func(s *scene, repository, digest string) {
				s.command("", program, "manifest", "delete", "--ca-file", s.Authority.File, "--force", repository+"@"+digest)
			},
		}.cells(),
	}
}
