package csi

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"berth.dev/berth/api/v1alpha1"
)

// machineOf makes a node's root folder with these files; a content 'pipe' is a named pipe, and '-> X' a link.
func machineOf(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		target, isLink := strings.CutPrefix(content, "-> ")
		switch {
		case err != nil:
		case content == "pipe":
			err = syscall.Mkfifo(path, 0o600)
		case isLink:
			err = os.Symlink(target, path)
		default:
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

const (
	images = "[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"%\"\n"
	cri    = "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"%\"\n"
	local  = "[plugins.\"io.containerd.cri.v1.images\"]\nuse_local_image_pull = true\n"
	main   = "/etc/containerd/config.toml"
)

func at(section, path string) string { return strings.ReplaceAll(section, "%", path) }

func TestContainerdHosts(t *testing.T) {
	t.Parallel()
	const (
		invalid = v1alpha1.NodeReasonConfigInvalid
		missing = v1alpha1.NodeReasonConfigPathMissing
		several = v1alpha1.NodeReasonConfigPathSeveral
	)
	for name, tc := range map[string]struct {
		version string // 2.4.2 where empty
		files   map[string]string
		want    string // the folder, or the reason
	}{
		"version 3":                       {"", map[string]string{main: "version = 3\n" + at(images, "/a")}, "/a"},
		"version 3 in single quotes":      {"", map[string]string{main: "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/a'\n"}, "/a"},
		"version 2 for 2.x":               {"", map[string]string{main: "version = 2\n" + at(cri, "/a")}, "/a"},
		"version 2":                       {"1.7.29", map[string]string{main: "version = 2\n" + at(cri, "/a")}, "/a"},
		"version 1":                       {"1.7.29", map[string]string{main: "[plugins.cri.registry]\nconfig_path = \"/a\"\n"}, "/a"},
		"both, for 2.x":                   {"", map[string]string{main: at(cri, "/old") + at(images, "/new")}, "/new"},
		"both, for 1.x":                   {"1.7.29", map[string]string{main: at(cri, "/old") + at(images, "/new")}, "/old"},
		"the new name, which 1.x ignores": {"1.7.29", map[string]string{main: at(images, "/new")}, missing},
		"no file":                         {"", nil, missing},
		"empty file":                      {"", map[string]string{main: ""}, missing},
		"empty path":                      {"", map[string]string{main: at(images, "")}, missing},
		"another plugin's":                {"", map[string]string{main: "[plugins.'io.containerd.snapshotter.v1.stargz'.registry]\nconfig_path = '/a'\n"}, missing},
		"not clean":                       {"", map[string]string{main: at(images, "/a//b/../c/")}, "/a/c"},
		"relative":                        {"", map[string]string{main: at(images, "certs.d")}, invalid},
		"several, for 1.x":                {"1.7.29", map[string]string{main: at(cri, "/a:/b")}, "/a"},
		"several, for 2.0":                {"2.0.14", map[string]string{main: at(images, "/a:/b")}, "/a"},
		"several, for 2.1":                {"2.1.9", map[string]string{main: at(images, "/a:/b")}, several},
		"several, for an unknown":         {"nightly", map[string]string{main: at(images, "/a:/b")}, several},
		"several, and pulls are local":    {"", map[string]string{main: at(images, "/a:/b") + local}, "/a"},
		"import":                          {"", map[string]string{main: "imports = ['/etc/containerd/conf.d/x.toml']\n", "/etc/containerd/conf.d/x.toml": at(images, "/a")}, "/a"},
		"import over the file":            {"", map[string]string{main: "imports = ['x.toml']\n" + at(images, "/a"), "/etc/containerd/x.toml": at(images, "/b")}, "/b"},
		"import that says nothing":        {"", map[string]string{main: "imports = ['x.toml']\n" + at(images, "/a"), "/etc/containerd/x.toml": local}, "/a"},
		"imports by a star, the last": {"", map[string]string{
			main: "imports = ['/etc/containerd/conf.d/*.toml']\n", "/etc/containerd/conf.d/1.toml": at(images, "/a"), "/etc/containerd/conf.d/2.toml": at(images, "/b"),
			"/etc/containerd/conf.d/3.txt": at(images, "/c"),
		}, "/b"},
		"star without a file": {"", map[string]string{main: "imports = ['/etc/containerd/conf.d/*.toml']\n" + at(images, "/a")}, "/a"},
		"imports of imports": {"", map[string]string{
			main: "imports = ['d/x.toml']\n", "/etc/containerd/d/x.toml": "imports = ['y.toml']\n", "/etc/containerd/d/y.toml": at(images, "/a"),
		}, "/a"},
		"imports in a circle": {"", map[string]string{main: "imports = ['x.toml']\n", "/etc/containerd/x.toml": "imports = ['config.toml', 'x.toml']\n" + at(images, "/a")}, "/a"},
		"1.x takes an imported section whole": {"1.7.29", map[string]string{
			main: "version = 2\nimports = ['x.toml']\n" + at(cri, "/a"), "/etc/containerd/x.toml": "[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'x'\n",
		}, missing},
		"import is not there":         {"", map[string]string{main: "imports = ['x.toml']\n" + at(images, "/a")}, invalid},
		"import out of the node":      {"", map[string]string{main: "imports = ['../../../../../../etc/hostname']\n" + at(images, "/a")}, invalid},
		"imports of another type":     {"", map[string]string{main: "imports = 'x.toml'\n"}, invalid},
		"broken star":                 {"", map[string]string{main: "imports = ['/etc/[*']\n"}, invalid},
		"no TOML":                     {"", map[string]string{main: "server: https\n"}, invalid},
		"bytes":                       {"", map[string]string{main: "\x00\xff\xfe"}, invalid},
		"config_path of another type": {"", map[string]string{main: "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = ['/a']\n"}, invalid},
		"pipe":                        {"", map[string]string{main: "pipe"}, invalid},
		"folder":                      {"", map[string]string{main + "/x": ""}, invalid},
		"link out of the node":        {"", map[string]string{main: "-> /etc/hostname"}, invalid},
		"import is a pipe":            {"", map[string]string{main: "imports = ['x.toml']\n", "/etc/containerd/x.toml": "pipe"}, invalid},
		"too large":                   {"", map[string]string{main: strings.Repeat("#", mostRead+1)}, invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			version := tc.version
			if version == "" {
				version = "2.4.2"
			}
			got, err := containerdHosts(machineOf(t, tc.files), main, version)
			if unready := (*Unready)(nil); errors.As(err, &unready) {
				got = unready.Reason
			} else if err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("'%s', %v, want '%s'", got, err, tc.want)
			}
		})
	}
}

// TestContainerdConfigIsNotShown: it may hold passwords of registries.
func TestContainerdConfigIsNotShown(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"broken":       "[plugins.cri.registry.configs.x.auth]\npassword = hunter2\n",
		"broken below": "password = 'hunter2'\nhunter2 = [\n",
		"wrong type":   "imports = {password = 'hunter2'}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := containerdHosts(machineOf(t, map[string]string{main: config}), main, "2.4.2"); err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error: %v", err)
			}
		})
	}
}

func TestManyImports(t *testing.T) {
	t.Parallel()
	files := map[string]string{main: "imports = ['1*.toml']\n"}
	for i := range 2 * mostConfigs {
		files["/etc/containerd/1"+strings.Repeat("0", i%200)+strings.Repeat("1", i/200)+".toml"] = ""
	}
	if _, err := containerdHosts(machineOf(t, files), main, "2.4.2"); err == nil || !strings.Contains(err.Error(), "imports more than") {
		t.Errorf("error: %v", err)
	}
}

func TestFinderConfig(t *testing.T) {
	t.Parallel()
	const k3s, rke2 = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "/var/lib/rancher/rke2/agent/etc/containerd/config.toml"
	for name, tc := range map[string]struct {
		version, config string
		files           map[string]string
		want            string
	}{
		"containerd":              {"2.4.2", "", nil, main},
		"containerd, beside k3s":  {"2.4.2", "", map[string]string{k3s: ""}, main},
		"k3s":                     {"2.1.4-k3s1", "", map[string]string{k3s: "", main: ""}, k3s},
		"RKE2":                    {"2.1.4-k3s1", "", map[string]string{rke2: ""}, rke2},
		"k3s, of 1.7":             {"1.7.23-k3s2", "", map[string]string{k3s: ""}, k3s},
		"as it is told":           {"2.4.2", "/opt/c.toml", nil, "/opt/c.toml"},
		"as it is told, with k3s": {"2.1.4-k3s1", "/opt/c.toml", map[string]string{k3s: ""}, "/opt/c.toml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := Finder{Host: machineOf(t, tc.files), Config: tc.config}
			if got, err := f.config(tc.version); got != tc.want || err != nil {
				t.Errorf("'%s', %v, want '%s'", got, err, tc.want)
			}
		})
	}
	f := Finder{Host: machineOf(t, nil)}
	if _, err := f.config("2.1.4-k3s1"); !errors.Is(err, fs.ErrNotExist) || reasonOf(err) != v1alpha1.NodeReasonFolderUnavailable {
		t.Errorf("error: %v", err)
	}
}

// TestFinderK3s: k3s's own configuration leads to its own folder.
func TestFinderK3s(t *testing.T) {
	t.Parallel()
	const dir = "/var/lib/rancher/k3s/agent/etc/containerd"
	for name, config := range map[string]string{
		"version 3": "version = 3\nimports = [\"" + dir + "/config-v3.toml.d/*.toml\"]\nroot = \"/var/lib/rancher/k3s/agent/containerd\"\n" + at(images, dir+"/certs.d"),
		"version 2": "version = 2\n" + at(cri, dir+"/certs.d"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := Finder{Host: machineOf(t, map[string]string{dir + "/config.toml": config}), ClusterDomain: "cluster.local"}
			keeper, got, err := f.find("containerd://2.1.4-k3s1")
			if err != nil || got != dir+"/certs.d" {
				t.Fatalf("'%s', %v", got, err)
			}
			if err := keeper.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
