// Package build compiles the programs that the cluster is made of and keeps
// them in a cache outside the source tree.
//
// Each component has a directory of its own in the cache, named after a hash
// of all that goes into it: the version or the source files, the flags and the
// Go release. A component is therefore built once for each of its inputs, and
// changing one does not rebuild the others. Directories appear by rename, so
// that a build which was interrupted leaves nothing that looks complete.
package build

import (
	"strings"
	"time"
)

// Component is one row of the table of what is built.
type Component struct {
	Name     string        // of the cache directory, and on the screen
	Holds    string        // what it is for people, if the name does not say
	Packages []string      // with @version: go install; else paths below Dir
	Dir      string        // module of this repository, below its root; empty for go install
	Sources  []string      // directories that are inputs, below the root; empty: Dir
	Tags     string        // build tags
	LDFlags  string        // linker flags, beyond -s -w
	Links    []string      // further names of the program
	CGO      bool          // needs a C compiler
	Takes    time.Duration // about, on two cores with an empty build cache
}

const (
	containerdVersion = "v2.4.2"
	runcVersion       = "v1.5.2"
	cniVersion        = "v1.9.1"
	kubernetesVersion = "v1.36.3" // as in kube/go.mod: a test compares them
)

const (
	containerdModule = "github.com/containerd/containerd/v2"
	cniModule        = "github.com/containernetworking/plugins/plugins"
)

// Components is the table of everything that `cluster build` builds, the
// longest first. containerd, runc and the CNI plugins are built by `go install
// package@version`, each with the dependency versions of its own release.
func Components() []Component {
	return []Component{
		{
			Name: "kubernetes", Holds: "etcd to kubectl", Dir: "test/cluster/kube", Packages: []string{"."},
			Tags: "grpcnotrace", LDFlags: kubernetesFlags(kubernetesVersion), Takes: 5 * time.Minute,
			Links: []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"},
		},
		{Name: "coredns", Dir: "test/cluster/coredns", Packages: []string{"."}, Takes: 70 * time.Second},
		{
			Name: "containerd", Packages: []string{containerdModule + "/cmd/containerd@" + containerdVersion},
			Tags: "no_btrfs no_devmapper no_zfs no_aufs no_tracing", LDFlags: containerdFlags(), Takes: time.Minute,
		},
		{Name: "registry", Holds: "Distribution", Dir: "test/cluster/registry", Packages: []string{"."}, Takes: 25 * time.Second},
		{
			Name: "runc", Packages: []string{"github.com/opencontainers/runc@" + runcVersion}, Tags: "seccomp", CGO: true,
			LDFlags: "-X main.version=" + strings.TrimPrefix(runcVersion, "v"), Takes: 10 * time.Second,
		},
		{
			Name: "shim", Packages: []string{containerdModule + "/cmd/containerd-shim-runc-v2@" + containerdVersion},
			Tags: "no_grpc", LDFlags: containerdFlags(), Takes: 3 * time.Second,
		},
		{Name: "ctr", Packages: []string{containerdModule + "/cmd/ctr@" + containerdVersion}, LDFlags: containerdFlags(), Takes: 4 * time.Second},
		{
			Name: "cni", Holds: "four network plugins", Takes: 6 * time.Second,
			Packages: []string{
				cniModule + "/main/bridge@" + cniVersion, cniModule + "/main/loopback@" + cniVersion,
				cniModule + "/ipam/host-local@" + cniVersion, cniModule + "/meta/portmap@" + cniVersion,
			},
		},
		{
			Name: "testapp", Holds: "the program in the test images", Dir: "test/cluster", Packages: []string{"./testapp"},
			Sources: []string{"test/cluster/testapp"}, Takes: 2 * time.Second,
		},
	}
}

// kubernetesFlags stamps the version as Kubernetes' own build does: kubectl
// and the API server tell it, and refuse to run without a parsable one.
func kubernetesFlags(version string) string {
	minor, _, _ := strings.Cut(strings.TrimPrefix(version, "v1."), ".")
	var flags []string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, stamp := range []string{
			"gitVersion=" + version, "gitMajor=1", "gitMinor=" + minor, "gitCommit=modproxy",
			"gitTreeState=clean", "buildDate=2026-01-01T00:00:00Z",
		} {
			flags = append(flags, "-X "+pkg+"."+stamp)
		}
	}
	return strings.Join(flags, " ")
}

func containerdFlags() string {
	return "-X " + containerdModule + "/version.Version=" + containerdVersion
}
