package csi_test

import (
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/csi"
	"berth.dev/berth/route"
)

var update = flag.Bool("update", false, "write the goldens as they are now") //nolint:gochecknoglobals // flags are

const clusterDomain = "cluster.local"

func connector(namespace, name string) route.Connector {
	return route.Connector{Namespace: namespace, Name: name}
}

func host(namespace, name string) string { return connector(namespace, name).Host(clusterDomain) }

// node is a runtime's folder with what keeps it.
type node struct {
	*csi.HostsDir

	path string
}

func newNode(t testing.TB) *node {
	t.Helper()
	return (&node{path: t.TempDir()}).restart(t)
}

// restart is a new process at the same folder.
func (n *node) restart(t testing.TB) *node {
	t.Helper()
	dir, err := csi.NewHostsDir(n.path, clusterDomain)
	if err != nil {
		t.Fatal(err)
	}
	return &node{dir, n.path}
}

// sync fails the test unless just so many hosts are written and removed.
func (n *node) sync(t testing.TB, proxy csi.Proxy, wrote, removed int, connectors ...route.Connector) {
	t.Helper()
	gotWrote, gotRemoved, err := n.Sync(connectors, proxy)
	if err != nil || gotWrote != wrote || gotRemoved != removed {
		t.Fatalf("Sync wrote %d and removed %d, %v, want %d and %d", gotWrote, gotRemoved, err, wrote, removed)
	}
}

// put writes a file, and the folders to it, as somebody else would.
func (n *node) put(t testing.TB, name, content string) {
	t.Helper()
	path := filepath.Join(n.path, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// files returns all that stands in the folder: of files the content, of links the target.
func (n *node) files(t testing.TB) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(n.path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == n.path {
			return err
		}
		name, _ := filepath.Rel(n.path, path)
		switch {
		case entry.IsDir():
			files[name+"/"] = ""
		case entry.Type() == fs.ModeSymlink:
			files[name], err = os.Readlink(path)
		default:
			var content []byte
			content, err = os.ReadFile(path)
			files[name] = string(content)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// age makes every file an hour old, and returns what tells whether one was written since.
func (n *node) age(t testing.TB) (touched func() []string) {
	t.Helper()
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	for name := range n.files(t) {
		if err := os.Chtimes(filepath.Join(n.path, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	return func() (names []string) {
		for name := range n.files(t) {
			if info, err := os.Lstat(filepath.Join(n.path, name)); err != nil || !info.ModTime().Equal(old) {
				names = append(names, name)
			}
		}
		return names
	}
}

func proxyAt(ca string, addresses ...string) csi.Proxy {
	p := csi.Proxy{Port: 443, CACert: []byte(ca)}
	for _, text := range addresses {
		p.Addresses = append(p.Addresses, netip.MustParseAddr(text))
	}
	return p
}

func someProxy(ca string) csi.Proxy { return proxyAt(ca, "10.96.7.7") }

func TestHostsFile(t *testing.T) {
	t.Parallel()
	otherPort := someProxy("ca")
	otherPort.Port = 8443
	for name, proxy := range map[string]csi.Proxy{
		"ipv4":      proxyAt("ca", "10.96.7.7"),
		"ipv6":      proxyAt("ca", "fd00:10:96::7"),
		"dualstack": proxyAt("ca", "10.96.7.7", "fd00:10:96::7"),
		"port":      otherPort,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.sync(t, proxy, 1, 0, connector("demo", "harbor"))
			got := n.files(t)
			leadsOnlyTo(t, proxy, got[host("demo", "harbor")+"/hosts.toml"])
			golden := filepath.Join("testdata", name+".hosts.toml")
			if *update {
				if err := os.WriteFile(golden, []byte(got[host("demo", "harbor")+"/hosts.toml"]), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v; write it by: go test ./csi -update", err)
			}
			if diff := cmp.Diff(map[string]string{
				host("demo", "harbor") + "/":           "",
				host("demo", "harbor") + "/hosts.toml": string(want),
				host("demo", "harbor") + "/ca.crt":     "ca",
			}, got); diff != "" {
				t.Errorf("the folder (-want +got):\n%s", diff)
			}
		})
	}
}

// leadsOnlyTo is the law that no golden may break: every URL in the file is the proxy's, and is verified.
func leadsOnlyTo(t *testing.T, proxy csi.Proxy, file string) {
	t.Helper()
	rest := file
	for _, address := range proxy.Addresses {
		rest = strings.ReplaceAll(rest, `"https://`+netip.AddrPortFrom(address, proxy.Port).String()+`"`, "")
	}
	if strings.Contains(rest, "://") || strings.Contains(file, "skip_verify") {
		t.Errorf("hosts.toml leads elsewhere than to the proxy:\n%s", file)
	}
}

func TestSyncDoesNothingTwice(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.sync(t, someProxy("ca"), 2, 0, connector("demo", "harbor"), connector("demo", "quay"))
	touched := n.age(t)
	n.sync(t, someProxy("ca"), 0, 0, connector("demo", "quay"), connector("demo", "harbor"))
	n.restart(t).sync(t, someProxy("ca"), 0, 0, connector("demo", "harbor"), connector("demo", "quay"))
	if names := touched(); len(names) > 0 {
		t.Errorf("touched %v", names)
	}
}

func TestSyncTouchesWhatChanged(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor"))
	touched := n.age(t)
	n.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor"), connector("shop", "harbor"))
	for _, name := range touched() {
		if !strings.HasPrefix(name, host("shop", "harbor")) {
			t.Errorf("touched '%s'", name)
		}
	}
	n.sync(t, someProxy("ca"), 0, 1, connector("shop", "harbor"))
	if _, err := os.Lstat(filepath.Join(n.path, host("demo", "harbor"))); !os.IsNotExist(err) {
		t.Errorf("the folder of a Connector that is gone is there: %v", err)
	}
	n.put(t, host("shop", "harbor")+"/ca.crt.new", "c") // a crash while the certificate changed
	n.put(t, host("shop", "harbor")+"/hosts.toml.new", "# Wri")
	n.restart(t).sync(t, someProxy("ca"), 0, 1) // gone while the process was away
	if left := n.files(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestSyncFollowsTheProxy(t *testing.T) {
	t.Parallel()
	for name, now := range map[string]csi.Proxy{
		"another authority":   someProxy("ca two"),
		"another address":     proxyAt("ca", "10.96.7.8"),
		"one more address":    proxyAt("ca", "10.96.7.7", "fd00:10:96::7"),
		"two authorities now": someProxy("ca\nnext"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.sync(t, someProxy("ca"), 2, 0, connector("demo", "harbor"), connector("demo", "quay"))
			n.sync(t, now, 2, 0, connector("demo", "harbor"), connector("demo", "quay"))
			if got := n.files(t)[host("demo", "quay")+"/ca.crt"]; got != string(now.CACert) {
				t.Errorf("ca.crt is '%s', want '%s'", got, now.CACert)
			}
			n.restart(t).sync(t, now, 0, 0, connector("demo", "harbor"), connector("demo", "quay"))
		})
	}
}

func TestSyncWaitsForTheProxy(t *testing.T) {
	t.Parallel()
	noPort := someProxy("ca")
	noPort.Port = 0
	for name, proxy := range map[string]csi.Proxy{
		"nothing is known": {}, "no authority": someProxy(""), "no address": proxyAt("ca"), "no port": noPort,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor"))
			before := n.files(t)
			n.sync(t, proxy, 0, 0, connector("demo", "quay"))
			if diff := cmp.Diff(before, n.files(t)); diff != "" {
				t.Errorf("the folder (-before +after):\n%s", diff)
			}
		})
	}
}

func TestSyncRepairs(t *testing.T) {
	t.Parallel()
	folder := host("demo", "harbor") + "/"
	for name, broken := range map[string]map[string]string{
		"crashed after the folder":        {".keep": ""},
		"crashed after the certificate":   {folder + "ca.crt": "ca"},
		"crashed within the certificate":  {folder + "ca.crt.new": "c"},
		"crashed within hosts.toml":       {folder + "ca.crt": "ca", folder + "hosts.toml.new": "# Wri"},
		"emptied by a power cut":          {folder + "ca.crt": "", folder + "hosts.toml": ""},
		"certificate lost by a power cut": {folder + "hosts.toml": ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := newNode(t)
			whole.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor"))
			n := newNode(t)
			for file, content := range broken {
				n.put(t, file, content)
			}
			n = n.restart(t)
			n.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor"))
			got := n.files(t)
			delete(got, ".keep")
			if diff := cmp.Diff(whole.files(t), got); diff != "" {
				t.Errorf("the folder (-want +got):\n%s", diff)
			}
			n.sync(t, someProxy("ca"), 0, 1)
			delete(broken, ".keep")
			if _, err := os.Lstat(filepath.Join(n.path, folder)); !os.IsNotExist(err) {
				t.Errorf("the folder stays: %v", err)
			}
		})
	}
}

func TestSyncLeavesWhatIsForeign(t *testing.T) {
	t.Parallel()
	ours, elsewhere := host("demo", "harbor"), t.TempDir()
	for name, tc := range map[string]struct {
		make func(*testing.T, *node)
		says string // what to remove
	}{
		"hosts.toml": {
			func(t *testing.T, n *node) { t.Helper(); n.put(t, ours+"/hosts.toml", "server = \"https://mine\"\n") },
			ours + "/hosts.toml",
		},
		"link in the place of the folder": {
			func(t *testing.T, n *node) { t.Helper(); link(t, elsewhere, n.path, ours) }, ours,
		},
		"link to nowhere in the place of the folder": {
			func(t *testing.T, n *node) { t.Helper(); link(t, "nowhere", n.path, ours) }, ours,
		},
		"file in the place of the folder": {
			func(t *testing.T, n *node) { t.Helper(); n.put(t, ours, "mine") }, ours,
		},
		"link in the place of hosts.toml": {
			func(t *testing.T, n *node) {
				t.Helper()
				n.put(t, ours+"/other.toml", "mine")
				link(t, "other.toml", n.path, ours, "hosts.toml")
			},
			ours + "/hosts.toml",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			tc.make(t, n)
			n.put(t, "docker.io/hosts.toml", "mine")
			before := n.files(t)
			n = n.restart(t)
			for range 2 {
				wrote, removed, err := n.Sync([]route.Connector{connector("demo", "harbor"), connector("demo", "quay")}, someProxy("ca"))
				if err == nil || removed != 0 || wrote > 1 {
					t.Fatalf("Sync wrote %d and removed %d, %v, want one host and an error", wrote, removed, err)
				}
				for _, part := range []string{"'" + filepath.Join(n.path, tc.says) + "'", "not written by Berth", "remove it"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("the error is '%v', must say: %s", err, part)
					}
				}
			}
			n.sync(t, someProxy("ca"), 0, 1) // the Connectors are gone: only quay was ours
			if diff := cmp.Diff(before, n.files(t)); diff != "" {
				t.Errorf("the folder (-before +after):\n%s", diff)
			}
		})
	}
}

func link(t *testing.T, target string, path ...string) {
	t.Helper()
	if err := os.Symlink(target, filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}

func TestRestartAdoptsOnlyItsOwn(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.put(t, "docker.io/hosts.toml", "mine")
	n.put(t, "_default/hosts.toml", "mine")
	n.put(t, host("demo", "mine")+"/hosts.toml", "mine")
	n.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor"))
	link(t, host("demo", "harbor"), n.path, host("demo", "quay"))
	content := n.files(t)[host("demo", "harbor")+"/hosts.toml"]
	n.put(t, "registry.example.com/hosts.toml", content) // a copy of ours, but no Connector's host
	n = n.restart(t)
	n.sync(t, someProxy("ca"), 0, 1)
	if diff := cmp.Diff(map[string]string{
		"docker.io/": "", "docker.io/hosts.toml": "mine", "_default/": "", "_default/hosts.toml": "mine",
		host("demo", "mine") + "/": "", host("demo", "mine") + "/hosts.toml": "mine",
		host("demo", "quay"):    host("demo", "harbor"),
		"registry.example.com/": "", "registry.example.com/hosts.toml": content,
	}, n.files(t)); diff != "" {
		t.Errorf("the folder (-want +got):\n%s", diff)
	}
}

func TestRemoveLeavesForeignFilesBeside(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor"))
	n.put(t, host("demo", "harbor")+"/notes.txt", "mine")
	if _, removed, err := n.Sync(nil, someProxy("ca")); err == nil || removed != 0 || !strings.Contains(err.Error(), filepath.Join(n.path, host("demo", "harbor"))) {
		t.Errorf("Sync removed %d, %v, want an error that names the folder", removed, err)
	}
	n.sync(t, someProxy("ca"), 0, 0) // said once
	if diff := cmp.Diff(map[string]string{host("demo", "harbor") + "/": "", host("demo", "harbor") + "/notes.txt": "mine"}, n.files(t)); diff != "" {
		t.Errorf("the folder (-want +got):\n%s", diff)
	}
	n.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor")) // the Connector is back
}

func TestNewHostsDirWithoutFolder(t *testing.T) {
	t.Parallel()
	if _, err := csi.NewHostsDir(filepath.Join(t.TempDir(), "none"), clusterDomain); err == nil || !strings.Contains(err.Error(), "config_path") {
		t.Errorf("NewHostsDir = %v, want an error that names `config_path`", err)
	}
}
