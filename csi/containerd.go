package csi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"berth.dev/berth/api/v1alpha1"
)

const (
	// containerdConfig is where containerd looks for its configuration.
	containerdConfig = "/etc/containerd/config.toml"
	// mostConfigs is more files than any configuration is made of.
	mostConfigs = 256
)

// rancherConfigs are where k3s and RKE2 write that of theirs.
func rancherConfigs() []string {
	return []string{
		"/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
		"/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
	}
}

// criConfig is what is read of one file of containerd's configuration. The rest,
// where passwords may be, is not looked at.
type criConfig struct {
	Imports []string `toml:"imports"`
	Plugins struct {
		// Images is the plugin's name since containerd 2.0.
		Images *criPlugin `toml:"io.containerd.cri.v1.images"`
		// CRI is its name before, which 2.x takes too.
		CRI *criPlugin `toml:"io.containerd.grpc.v1.cri"`
		// Short is that of files of version 1, which 1.x takes.
		Short *criPlugin `toml:"cri"`
	} `toml:"plugins"`
}

type criPlugin struct {
	Registry struct {
		ConfigPath string `toml:"config_path"`
	} `toml:"registry"`
	// Local: 2.1 and later, where they are not told so, pull by their transfer service.
	Local bool `toml:"use_local_image_pull"`
}

// containerdVersion is what of a version makes a difference here.
type containerdVersion struct{ major, minor int }

// parseContainerdVersion reads '2.1.4-k3s1'. What cannot be read is taken for a new one.
func parseContainerdVersion(version string) containerdVersion {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	x, errMajor := strconv.Atoi(major)
	y, errMinor := strconv.Atoi(minor)
	if errMajor != nil || errMinor != nil {
		return containerdVersion{2, 1}
	}
	return containerdVersion{x, y}
}

// transfers reports whether pulls go through the transfer service by default, which
// takes a `config_path` of several folders for the name of one.
func (v containerdVersion) transfers() bool { return v.major > 2 || v.major == 2 && v.minor >= 1 }

// replaces reports whether a plugin's section in an imported file takes the place
// of the one before, and does not only add to it.
func (v containerdVersion) replaces() bool { return v.major < 2 }

// containerdHosts returns the folder in which a containerd of this version,
// started with this configuration, looks for hosts.toml first.
func containerdHosts(host *os.Root, config, version string) (string, error) {
	v := parseContainerdVersion(version)
	plugin, err := loadContainerd(host, config, v)
	if err != nil {
		return "", &Unready{v1alpha1.NodeReasonConfigInvalid, err}
	}
	const write = "write `config_path = \"/etc/containerd/certs.d\"` into its section `[plugins.\"%s\".registry]`, and restart containerd"
	section := "io.containerd.cri.v1.images"
	if v.major < 2 {
		section = "io.containerd.grpc.v1.cri"
	}
	// An absolute path each; containerd splits at colons.
	folders := filepath.SplitList(plugin.Registry.ConfigPath)
	switch {
	case len(folders) == 0:
		return "", &Unready{v1alpha1.NodeReasonConfigPathMissing, fmt.Errorf("'%s' sets no `config_path`, so that containerd reads no hosts.toml: "+write, config, section)}
	case len(folders) > 1 && v.transfers() && !plugin.Local:
		return "", &Unready{v1alpha1.NodeReasonConfigPathSeveral, fmt.Errorf("the `config_path` in '%s' names %d folders, which containerd since 2.1 takes for the name of one: "+write, config, len(folders), section)}
	case !path.IsAbs(folders[0]):
		return "", &Unready{v1alpha1.NodeReasonConfigInvalid, fmt.Errorf("the `config_path` in '%s' must begin with '/'", config)}
	}
	return path.Clean(folders[0]), nil
}

// loadContainerd reads a configuration, and all that it imports, as containerd
// does: a file, then what it imports, each over what came before.
func loadContainerd(host *os.Root, config string, v containerdVersion) (merged criPlugin, err error) {
	loaded := map[string]bool{}
	var images, cri criPlugin
	for pending := []string{config}; len(pending) > 0; {
		name := pending[0]
		pending = pending[1:]
		if loaded[name] {
			continue
		}
		if len(loaded) == mostConfigs {
			return merged, fmt.Errorf("'%s' imports more than %d files", config, mostConfigs)
		}
		loaded[name] = true
		c, err := readContainerd(host, name)
		if errors.Is(err, fs.ErrNotExist) && name == config {
			break // containerd starts without one
		}
		if err != nil {
			return merged, fmt.Errorf("read containerd's configuration '%s': %w", name, err)
		}
		images.over(c.Plugins.Images, v)
		cri.over(c.Plugins.Short, v)
		cri.over(c.Plugins.CRI, v)
		imports, err := resolve(host, name, c.Imports)
		if err != nil {
			return merged, err
		}
		pending = append(pending, imports...)
	}
	if v.major >= 2 && images.Registry.ConfigPath != "" {
		cri.Registry.ConfigPath = images.Registry.ConfigPath
	}
	cri.Local = cri.Local || v.major >= 2 && images.Local
	return cri, nil
}

// over puts a section of a later file over this one.
func (p *criPlugin) over(later *criPlugin, v containerdVersion) {
	switch {
	case later == nil:
	case v.replaces():
		*p = *later
	default:
		if later.Registry.ConfigPath != "" {
			p.Registry.ConfigPath = later.Registry.ConfigPath
		}
		p.Local = p.Local || later.Local
	}
}

func readContainerd(host *os.Root, name string) (c criConfig, err error) {
	content, err := readFile(host, within(name))
	if err != nil {
		return c, err
	}
	err = toml.Unmarshal(content, &c)
	// The library's own text may show a part of the file.
	if decode := (*toml.DecodeError)(nil); errors.As(err, &decode) {
		line, column := decode.Position()
		return c, fmt.Errorf("line %d, column %d is not what containerd understands", line, column)
	} else if err != nil {
		return c, errors.New("it is no TOML")
	}
	return c, nil
}

// resolve returns the files that a file imports: relative to it, and with stars.
func resolve(host *os.Root, parent string, imports []string) (files []string, err error) {
	for _, name := range imports {
		if !path.IsAbs(name) {
			name = path.Join(path.Dir(parent), name)
		}
		name = path.Clean(name)
		if !strings.Contains(name, "*") {
			files = append(files, name)
			continue
		}
		matches, err := fs.Glob(host.FS(), within(name))
		if err != nil {
			return nil, fmt.Errorf("'%s' imports '%s': %w", parent, name, err)
		}
		for _, match := range matches {
			files = append(files, "/"+match)
		}
	}
	return files, nil
}
