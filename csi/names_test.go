package csi

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

const (
	harborHost = "c-harbor.demo.svc.cluster.local"
	quayHost   = "c-quay.demo.svc.cluster.local"
	theirs     = "127.0.0.1 localhost\n::1 localhost # both\n"
)

func proxyOf(addresses ...string) Proxy {
	p := Proxy{Port: 443, CACert: []byte("ca")}
	for _, a := range addresses {
		p.Addresses = append(p.Addresses, netip.MustParseAddr(a))
	}
	return p
}

// contentOf is a file of a machine; an error where it cannot be read.
func contentOf(t *testing.T, root *os.Root, name string) string {
	t.Helper()
	content, err := root.ReadFile(within(name))
	if err != nil {
		return err.Error()
	}
	return string(content)
}

func TestHostsFileSync(t *testing.T) {
	t.Parallel()
	line := func(address, host string) string { return address + " " + host + ownLine }
	for name, tc := range map[string]struct {
		before  string
		hosts   []string
		proxy   Proxy
		want    string
		foreign bool
	}{
		"first":                 {theirs, []string{quayHost, harborHost}, proxyOf("10.96.7.7"), theirs + line("10.96.7.7", harborHost) + line("10.96.7.7", quayHost), false},
		"both families":         {theirs, []string{harborHost}, proxyOf("10.96.7.7", "fd00::7"), theirs + line("10.96.7.7", harborHost) + line("fd00::7", harborHost), false},
		"another address":       {theirs + line("10.0.0.1", harborHost), []string{harborHost}, proxyOf("10.96.7.7"), theirs + line("10.96.7.7", harborHost), false},
		"gone":                  {theirs + line("10.96.7.7", harborHost), nil, proxyOf("10.96.7.7"), theirs, false},
		"lines of others after": {line("10.96.7.7", harborHost) + theirs, []string{harborHost}, proxyOf("10.96.7.7"), theirs + line("10.96.7.7", harborHost), false},
		"no line end":           {"127.0.0.1 localhost", []string{harborHost}, proxyOf("10.96.7.7"), "127.0.0.1 localhost\n" + line("10.96.7.7", harborHost), false},
		"empty":                 {"", []string{harborHost}, proxyOf("10.96.7.7"), line("10.96.7.7", harborHost), false},
		"bytes of others":       {"\xff\x00#\r\n", []string{harborHost}, proxyOf("10.96.7.7"), "\xff\x00#\r\n" + line("10.96.7.7", harborHost), false},
		"named by another": {
			"10.0.0.1 x " + strings.ToUpper(harborHost) + "\n",
			[]string{harborHost, quayHost},
			proxyOf("10.96.7.7"),
			"10.0.0.1 x " + strings.ToUpper(harborHost) + "\n" + line("10.96.7.7", quayHost), true,
		},
		"named in a comment": {"# " + harborHost + "\n", []string{harborHost}, proxyOf("10.96.7.7"), "# " + harborHost + "\n" + line("10.96.7.7", harborHost), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := machineOf(t, map[string]string{namesFile: tc.before})
			hosts := map[string]bool{}
			for _, h := range tc.hosts {
				hosts[h] = true
			}
			f := HostsFile{host: host, name: namesFile}
			for range 2 {
				err := f.Sync(hosts, tc.proxy.Addresses)
				if foreign := (*foreignError)(nil); errors.As(err, &foreign) != tc.foreign || err != nil && !tc.foreign {
					t.Fatalf("error: %v", err)
				}
				if diff := cmp.Diff(tc.want, contentOf(t, host, namesFile)); diff != "" {
					t.Errorf("/etc/hosts (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestHostsFileReplaced: a file that lost its name is not written, since nobody would read it.
func TestHostsFileReplaced(t *testing.T) {
	t.Parallel()
	host := machineOf(t, map[string]string{namesFile: theirs})
	file, err := open(host, within(namesFile), os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if replaced(file) {
		t.Error("it has its name")
	}
	if err := os.Rename(filepath.Join(host.Name(), "etc/hosts"), filepath.Join(host.Name(), "etc/hosts.old")); err != nil || replaced(file) {
		t.Errorf("it has another name, %v", err)
	}
	if err := host.Remove("etc/hosts.old"); err != nil || !replaced(file) {
		t.Errorf("it has no name any more, %v", err)
	}
}

// TestHostsFileDiskFull: where the disk has no space, the file stays as it is.
func TestHostsFileDiskFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a small disk needs root to be mounted")
	}
	dir := t.TempDir()
	if err := NewMounter().Mount("tmpfs", dir, "tmpfs", []string{"size=4k"}); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	t.Cleanup(func() {
		if err := NewMounter().Unmount(dir); err != nil {
			t.Error(err)
		}
	})
	before := theirs + "10.96.7.7 " + harborHost + ownLine
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	many := map[string]bool{}
	for _, c := range "abcdefghijklmnopqrstuvwxyz" {
		many["c-"+strings.Repeat(string(c), 60)+strings.Repeat(".svc", 30)] = true
	}
	f := HostsFile{host: root, name: "/hosts"}
	if err := f.Sync(many, proxyOf("10.96.7.7").Addresses); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error: %v", err)
	}
	if diff := cmp.Diff(before, contentOf(t, root, "/hosts")); diff != "" {
		t.Errorf("the file (-before +after):\n%s", diff)
	}
}

// TestNamed: what CRI-O and Docker need stands, and goes with its Connector; what is not ours is left alone.
func TestNamed(t *testing.T) {
	t.Parallel()
	connectors := []route.Connector{{Namespace: "demo", Name: "harbor"}}
	for runtime, want := range map[string]map[string]string{
		"cri-o://1.36.0": {
			namesFile: theirs + "10.96.7.7 " + harborHost + ownLine,
			crioCertificates + "/" + harborHost + "/ca.crt": mark + "ca",
			crioRegistries + "/" + dropInFile: mark + "\n[[registry]]\nprefix = \"" + harborHost + "\"\nlocation = \"" + harborHost +
				"\"\ninsecure = false\nblocked = false\n",
		},
		"docker://29.1.0": {
			namesFile: theirs + "10.96.7.7 " + harborHost + ownLine,
			dockerCertificates + "/" + harborHost + "/ca.crt": mark + "ca",
		},
	} {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			host := machineOf(t, map[string]string{namesFile: theirs, crioRegistries + "/00-theirs.conf": "theirs"})
			f := Finder{Host: host, ClusterDomain: "cluster.local"}
			keeper, _, err := f.find(runtime)
			if err != nil {
				t.Fatal(err)
			}
			defer keeper.Close()
			for i := range 2 {
				if wrote, removed, err := keeper.Sync(connectors, proxyOf("10.96.7.7")); err != nil || wrote != 1-i || removed != 0 {
					t.Fatalf("wrote %d, removed %d, %v", wrote, removed, err)
				}
			}
			if runtime != "docker://29.1.0" { // test/crio reads them with CRI-O's own library
				golden(t, "testdata/crio.conf", contentOf(t, host, crioRegistries+"/"+dropInFile))
				golden(t, "testdata/etc-hosts", contentOf(t, host, namesFile))
			}
			for name, content := range want {
				if diff := cmp.Diff(content, contentOf(t, host, name)); diff != "" {
					t.Errorf("'%s' (-want +got):\n%s", name, diff)
				}
			}
			elsewhere := proxyOf("10.96.7.7")
			elsewhere.Port = 8443
			if _, _, err := keeper.Sync(connectors, elsewhere); reasonOf(err) != v1alpha1.NodeReasonPortUnsupported {
				t.Errorf("another port: %v", err)
			}
			if wrote, removed, err := keeper.Sync(nil, proxyOf("10.96.7.7")); err != nil || wrote != 0 || removed != 1 {
				t.Fatalf("wrote %d, removed %d, %v", wrote, removed, err)
			}
			if diff := cmp.Diff(theirs, contentOf(t, host, namesFile)); diff != "" || contentOf(t, host, crioRegistries+"/00-theirs.conf") != "theirs" {
				t.Errorf("/etc/hosts (-want +got):\n%s", diff)
			}
			for name := range want {
				if name == namesFile {
					continue
				}
				if _, err := host.Lstat(within(name)); !os.IsNotExist(err) {
					t.Errorf("'%s' is still there: %v", name, err)
				}
			}
		})
	}
}

// golden compares with a file of this repository.
func golden(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("'%s' (-want +got):\n%s", name, diff)
	}
}

func TestDropInLeavesWhatIsForeign(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"file": "mine", "pipe": "pipe", "link": "-> 00-theirs.conf"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := machineOf(t, map[string]string{crioRegistries + "/00-theirs.conf": mark, crioRegistries + "/" + dropInFile: content})
			d, err := NewDropIn(host, crioRegistries)
			if err != nil {
				t.Fatal(err)
			}
			defer d.root.Close()
			for _, hosts := range []map[string]bool{{harborHost: true}, {}} {
				if err := d.Sync(hosts); reasonOf(err) != v1alpha1.NodeReasonForeignFiles || !strings.Contains(err.Error(), crioRegistries+"/"+dropInFile) {
					t.Errorf("%d hosts: %v", len(hosts), err)
				}
			}
			if contentOf(t, host, crioRegistries+"/00-theirs.conf") != mark {
				t.Error("a link was followed")
			}
		})
	}
}
