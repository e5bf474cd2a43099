// Package layout says where everything of the test cluster is: its addresses
// and names, which never vary, and the files of its state directory.
//
// There are two places where things run. The node is one set of mount,
// network, PID, IPC and UTS namespaces, in which all of Kubernetes runs. The
// upstream ("harbor") shares them but for the network: it has a network
// namespace of its own, joined to the node's by one wire.
//
//	harbor 10.77.0.10 ── 10.77.0.1 node-1 10.78.0.1 ── Pods 10.78.0.0/24
package layout

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The cluster's names and addresses.
const (
	ClusterName   = "berth-cluster" // also the name of its cgroups
	NodeName      = "node-1"
	NodeIP        = "10.77.0.1"
	PodCIDR       = "10.78.0.0/24"
	ServiceCIDR   = "10.79.0.0/16"
	ServiceIP     = "10.79.0.1" // of the Service default/kubernetes
	ClusterDomain = "cluster.local"
	APIServer     = "https://" + NodeIP + ":6443"

	HarborName = "harbor.example.com"
	HarborIP   = "10.77.0.10"
	HarborUser = "robot$berth"

	PauseImage = "registry.test/pause:1"
)

// Places inside the node's mount namespace.
const (
	Private        = "/run/" + ClusterName // nothing outside the namespaces has it
	ControlSocket  = Private + "/control.sock"
	HarborNetns    = "/run/netns/harbor"
	ContainerdSock = "/run/containerd/containerd.sock"
)

// State is the absolute path of a state directory.
type State string

// ResolveState makes the directory's path absolute and refuses the places
// that the node covers with mounts of its own.
func ResolveState(dir string) (State, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("finding the state directory '%s': %w", dir, err)
	}
	for _, covered := range []string{"/run", "/etc", "/var/lib", "/var/log", "/proc", "/sys", "/dev"} {
		if abs == covered || strings.HasPrefix(abs, covered+"/") {
			return "", fmt.Errorf("the state directory may not be '%s': the node covers '%s' with mounts of its own; choose another with --state",
				abs, covered)
		}
	}
	return State(abs), nil
}

// Path joins names to the state directory.
func (s State) Path(names ...string) string {
	return filepath.Join(append([]string{string(s)}, names...)...)
}

// Record is the file that says what runs: see package lifecycle.
func (s State) Record() string { return s.Path("cluster.json") }

// Before is the file with what the machine looked like before the cluster.
func (s State) Before() string { return s.Path("before.json") }

// Log is the log of one component.
func (s State) Log(name string) string { return s.Path("log", name+".log") }

// PKI is a file of the cluster's keys, certificates and kubeconfigs.
func (s State) PKI(name string) string { return s.Path("pki", name) }

// Config is a rendered configuration file.
func (s State) Config(name string) string { return s.Path("config", name) }

// Harbor is a file of the upstream.
func (s State) Harbor(name string) string { return s.Path("harbor", name) }

// Kubeconfig is the administrator's kubeconfig.
func (s State) Kubeconfig() string { return s.PKI("admin.kubeconfig") }

// Wipe removes everything in the state directory but the logs. It refuses
// while something is mounted there, for RemoveAll would reach through.
func (s State) Wipe(mountinfo string) error {
	if strings.Contains(mountinfo, " "+string(s)+"/") {
		return fmt.Errorf("wiping '%s': something is still mounted below it; unmount it first (see /proc/self/mountinfo)", s)
	}
	entries, err := os.ReadDir(string(s))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wiping the state directory: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == "log" {
			continue
		}
		if err := os.RemoveAll(s.Path(entry.Name())); err != nil {
			return fmt.Errorf("wiping the state directory: %w", err)
		}
	}
	return nil
}
