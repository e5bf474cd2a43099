package csi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

// Where CRI-O and Docker look.
const (
	crioCertificates   = "/etc/containers/certs.d"
	crioRegistries     = "/etc/containers/registries.conf.d"
	dockerCertificates = "/etc/docker/certs.d"
)

// Unready is why pulls through Connectors do not work on a node.
type Unready struct {
	// Reason is one of v1alpha1's NodeReason constants.
	Reason string
	// Err says it for people.
	Err error
}

// Error implements error.
func (u *Unready) Error() string { return u.Err.Error() }

// Unwrap returns the cause.
func (u *Unready) Unwrap() error { return u.Err }

// keeper keeps files for a container runtime.
type keeper interface {
	Sync(connectors []route.Connector, proxy Proxy) (wrote, removed int, err error)
	Close() error
}

// Finder finds where a node's container runtime looks for files about registries.
type Finder struct {
	// Host is the node's root folder, or what is mounted of it.
	Host *os.Root
	// ClusterDomain is the DNS suffix of the cluster's Services.
	ClusterDomain string
	// HostsDir is containerd's `config_path`. Empty: what its configuration says.
	HostsDir string
	// Config is containerd's configuration. Empty: where it is mostly.
	Config string
}

// find returns what keeps the files of a runtime, which kubelet names like
// 'containerd://2.4.2', and the folder where they are. An error is an Unready.
func (f *Finder) find(runtime string) (keeper, string, error) {
	name, version, _ := strings.Cut(runtime, "://")
	switch name {
	case "containerd":
		return f.containerd(version)
	case "cri-o":
		return f.named(crioCertificates, crioRegistries)
	case "docker":
		return f.named(dockerCertificates, "")
	}
	return nil, "", &Unready{v1alpha1.NodeReasonRuntimeUnsupported, fmt.Errorf("the container runtime '%s' is none that Berth knows", runtime)}
}

func (f *Finder) containerd(version string) (_ keeper, dir string, err error) {
	if dir = f.HostsDir; dir == "" {
		config, err := f.config(version)
		if err != nil {
			return nil, "", err
		}
		if dir, err = containerdHosts(f.Host, config, version); err != nil {
			return nil, "", err
		}
	}
	d, err := NewHostsDir(f.Host, dir, f.ClusterDomain)
	if err != nil {
		return nil, dir, unavailable(dir, err)
	}
	return d, dir, nil
}

// config returns which configuration a containerd of this version has.
func (f *Finder) config(version string) (string, error) {
	switch {
	case f.Config != "":
		return f.Config, nil
	case !strings.Contains(version, "-k3s"): // k3s and RKE2 name theirs so
		return containerdConfig, nil
	}
	for _, config := range rancherConfigs() {
		if _, err := f.Host.Stat(within(config)); err == nil {
			return config, nil
		}
	}
	return "", unavailable(rancherConfigs()[0], fs.ErrNotExist)
}

// named is for runtimes that look names up.
func (f *Finder) named(certificates, registries string) (_ keeper, dir string, err error) {
	n := &names{file: &HostsFile{host: f.Host, name: namesFile}}
	if _, err := f.Host.Stat(within(namesFile)); err != nil {
		return nil, certificates, unavailable(namesFile, err)
	}
	if n.HostsDir, err = NewCertificatesDir(f.Host, certificates, f.ClusterDomain); err != nil {
		return nil, certificates, unavailable(certificates, err)
	}
	if registries == "" {
		return n, certificates, nil
	}
	if n.dropIn, err = NewDropIn(f.Host, registries); err != nil {
		return nil, certificates, errors.Join(unavailable(registries, err), n.HostsDir.Close())
	}
	return n, certificates, nil
}

// unavailable says what to do about a folder that is not there.
func unavailable(name string, err error) error {
	return &Unready{
		v1alpha1.NodeReasonFolderUnavailable,
		fmt.Errorf("'%s' of the node must be mounted, for writing, in the DaemonSet `berth-node` (docs/nodes.md): %w", name, err),
	}
}

// reasonOf is the reason for which files do not stand.
func reasonOf(err error) string {
	var unready *Unready
	var foreign *foreignError
	switch {
	case errors.As(err, &unready):
		return unready.Reason
	case errors.As(err, &foreign):
		return v1alpha1.NodeReasonForeignFiles
	case errors.Is(err, errPort):
		return v1alpha1.NodeReasonPortUnsupported
	case errors.Is(err, ErrReplaced):
		return v1alpha1.NodeReasonFolderUnavailable
	}
	return v1alpha1.NodeReasonWriteFailed
}
