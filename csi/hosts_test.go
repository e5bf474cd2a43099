package csi_test

import (
	"errors"
	"flag"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/csi"
	"berth.dev/berth/route"
)

var update = flag.Bool("update", false, "write the goldens as they are now") //nolint:gochecknoglobals // flags are

const (
	clusterDomain = "cluster.local"
	mark          = "# Written by Berth. Changes are overwritten; it goes with its Connector.\n"
)

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
	dir, err := csi.NewHostsDir(machine(t), n.path, clusterDomain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return &node{dir, n.path}
}

// machine is the root folder of this machine.
func machine(t testing.TB) *os.Root {
	t.Helper()
	root, err := os.OpenRoot("/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
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
		case entry.Type() != 0:
			files[name] = entry.Type().String()
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
				host("demo", "harbor") + "/ca.crt":     mark + "ca",
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
			if got := n.files(t)[host("demo", "quay")+"/ca.crt"]; got != mark+string(now.CACert) {
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
		"crashed after the certificate":   {folder + "ca.crt": mark + "ca"},
		"crashed within the certificate":  {folder + "ca.crt.new": "c"},
		"crashed within hosts.toml":       {folder + "ca.crt": mark + "ca", folder + "hosts.toml.new": "# Wri"},
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
		"folder in the place of hosts.toml": {
			func(t *testing.T, n *node) { t.Helper(); n.put(t, ours+"/hosts.toml/x", "mine") }, ours + "/hosts.toml",
		},
		"pipe in the place of hosts.toml": {
			func(t *testing.T, n *node) { t.Helper(); n.pipe(t, ours, "hosts.toml") }, ours + "/hosts.toml",
		},
		"pipe in the place of ca.crt": {
			func(t *testing.T, n *node) { t.Helper(); n.pipe(t, ours, "ca.crt") }, ours + "/ca.crt",
		},
		"certificate, as for Docker": {
			func(t *testing.T, n *node) { t.Helper(); n.put(t, ours+"/ca.crt", "mine") }, ours + "/ca.crt",
		},
		"certificate beside a hosts.toml like ours": {
			func(t *testing.T, n *node) {
				t.Helper()
				n.put(t, ours+"/hosts.toml", mark+"server = \"https://evil\"\n")
				n.put(t, ours+"/ca.crt", "mine")
			},
			ours + "/ca.crt",
		},
		"link to elsewhere in the place of hosts.toml": {
			func(t *testing.T, n *node) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(elsewhere, "ours"), []byte(mark), 0o600); err != nil {
					t.Fatal(err)
				}
				n.put(t, ours+"/.keep", "")
				link(t, filepath.Join(elsewhere, "ours"), n.path, ours, "hosts.toml")
			},
			ours + "/hosts.toml",
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

func TestNewHostsDirMakesItsFolder(t *testing.T) {
	t.Parallel()
	n := (&node{path: filepath.Join(t.TempDir(), "containerd", "certs.d")}).restart(t)
	n.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor"))
}

func TestNewHostsDirWithoutFolder(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := csi.NewHostsDir(machine(t), file+"/certs.d", clusterDomain); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("NewHostsDir = %v, want an error that names the folder", err)
	}
}

// pipe makes a named pipe: who opens it waits for a writer for ever.
func (n *node) pipe(t testing.TB, folder, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(n.path, folder), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(n.path, folder, name), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSyncRepairsWhatWasChanged: a new look finds what somebody changed of ours, and puts it right.
func TestSyncRepairsWhatWasChanged(t *testing.T) {
	t.Parallel()
	folder := host("demo", "harbor")
	for name, change := range map[string]func(*testing.T, *node){
		"hosts.toml leads elsewhere": func(t *testing.T, n *node) {
			t.Helper()
			n.put(t, folder+"/hosts.toml", mark+"server = \"https://evil\"\n")
		},
		"another certificate": func(t *testing.T, n *node) { t.Helper(); n.put(t, folder+"/ca.crt", mark+"evil") },
		"a file is gone":      func(t *testing.T, n *node) { t.Helper(); n.gone(t, folder+"/hosts.toml") },
		"the folder is gone":  func(t *testing.T, n *node) { t.Helper(); n.gone(t, folder) },
		"all is gone":         func(t *testing.T, n *node) { t.Helper(); n.gone(t, "") },
		"a link where the next file is written": func(t *testing.T, n *node) {
			t.Helper()
			n.gone(t, folder+"/hosts.toml")
			n.put(t, "victim", "theirs")
			link(t, "../victim", n.path, folder, "hosts.toml.new")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor"))
			want := n.files(t)
			change(t, n)
			n = n.restart(t)
			n.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor"))
			got := n.files(t)
			if victim, ok := got["victim"]; ok && victim != "theirs" {
				t.Errorf("a link was followed: %s", victim)
			}
			delete(got, "victim")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the folder (-want +got):\n%s", diff)
			}
		})
	}
}

func (n *node) gone(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(n.path, name)); err != nil {
		t.Fatal(err)
	}
}

// TestSyncRemovesOnlyItsOwn: what took the place of ours meanwhile is not removed with it.
func TestSyncRemovesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor"))
	n.put(t, host("demo", "harbor")+"/hosts.toml", "mine")
	if _, removed, err := n.Sync(nil, someProxy("ca")); err == nil || removed != 0 {
		t.Errorf("Sync removed %d, %v", removed, err)
	}
	if got := n.files(t)[host("demo", "harbor")+"/hosts.toml"]; got != "mine" {
		t.Errorf("hosts.toml is '%s'", got)
	}
}

// TestSyncNames: no name leads out of the folder, one that comes twice is written once, and the others are written all the same.
func TestSyncNames(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]route.Connector{
		"parent in the name":      connector("demo", "../../etc/x"),
		"parent in the namespace": connector("../..", "harbor"),
		"only a parent":           connector("..", ".."),
		"slash":                   connector("demo", "a/b"),
		"dot":                     connector("demo", "a.other"),
		"nothing":                 {},
		"quote":                   connector("demo", "a\"\nserver = \"x"),
		"too long":                connector("demo", strings.Repeat("a", 62)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outer := t.TempDir()
			n := (&node{path: filepath.Join(outer, "inner")}).restart(t)
			wrote, removed, err := n.Sync([]route.Connector{bad, connector("demo", "harbor"), connector("demo", "harbor")}, someProxy("ca"))
			if wrote != 1 || removed != 0 || err == nil || !strings.Contains(err.Error(), "cannot be the name of a Connector") {
				t.Errorf("Sync wrote %d and removed %d, %v", wrote, removed, err)
			}
			for file := range (&node{path: outer}).files(t) {
				if file != "inner/" && !strings.HasPrefix(file, "inner/"+host("demo", "harbor")) {
					t.Errorf("there is '%s'", file)
				}
			}
		})
	}
}

// TestSyncNamesFewErrors: ten thousand failures are not ten thousand lines.
func TestSyncNamesFewErrors(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	all := many(50)
	for _, c := range all {
		n.put(t, c.Host(clusterDomain)+"/hosts.toml", "mine")
	}
	_, _, err := n.Sync(all, someProxy("ca"))
	if err == nil || strings.Count(err.Error(), "not written by Berth") != 3 || !strings.HasSuffix(err.Error(), "and 47 more") {
		t.Errorf("Sync = %v", err)
	}
}

// TestSyncDiskFull: on a disk without space the files from before stay whole, and once there is space the new ones come.
func TestSyncDiskFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a small disk needs root to be mounted")
	}
	n := &node{path: t.TempDir()}
	mounter := csi.NewMounter()
	if err := mounter.Mount("tmpfs", n.path, "tmpfs", []string{"size=64k"}); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	t.Cleanup(func() {
		if err := mounter.Unmount(n.path); err != nil {
			t.Error(err)
		}
	})
	n = n.restart(t)
	t.Cleanup(func() { n.Close() })
	n.sync(t, someProxy("ca"), 1, 0, connector("demo", "harbor"))
	before := n.files(t)
	n.put(t, "ballast", "")
	ballast, err := os.OpenFile(filepath.Join(n.path, "ballast"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(ballast, strings.NewReader(strings.Repeat("x", 1<<20))); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	ballast.Close()
	if wrote, _, err := n.Sync([]route.Connector{connector("demo", "harbor"), connector("demo", "quay")}, someProxy("another")); !errors.Is(err, syscall.ENOSPC) || wrote != 0 {
		t.Errorf("Sync wrote %d, %v", wrote, err)
	}
	n.gone(t, "ballast")
	got := n.files(t)
	delete(got, host("demo", "quay")+"/") // an empty folder means nothing to a runtime
	if diff := cmp.Diff(before, got); diff != "" {
		t.Errorf("the folder (-before +after):\n%s", diff)
	}
	n.sync(t, someProxy("another"), 2, 0, connector("demo", "harbor"), connector("demo", "quay"))
}

// TestSyncOfMany: of many hosts one that comes, changes or goes is one folder that is touched.
func TestSyncOfMany(t *testing.T) {
	t.Parallel()
	all := many(1000)
	n := newNode(t)
	n.sync(t, someProxy("ca"), len(all)-1, 0, all[1:]...)
	touched := n.age(t)
	n.sync(t, someProxy("ca"), 1, 0, all...)
	if names := touched(); len(names) != 3 { // the folder and its two files
		t.Errorf("touched %v", names)
	}
	n.put(t, all[7].Host(clusterDomain)+"/hosts.toml", mark)
	n.restart(t).sync(t, someProxy("ca"), 1, 0, all...)
}
