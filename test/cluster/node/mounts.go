// Package node is the inside of the cluster: the program that runs as the
// first process of the node's namespaces. It prepares mounts and networks,
// starts the components, tells when they are ready, and stays to reap and to
// answer on a socket until it is killed.
package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"berth.dev/berth/test/cluster/layout"
)

// mountAll gives the node a file system of its own, as far as it writes to it.
// The machine's stays below, unchanged.
func mountAll(state layout.State) error {
	steps := []func(layout.State) error{separate, coverRun, coverTrees, bindState, writeEtc, coverSysctls}
	for _, step := range steps {
		if err := step(state); err != nil {
			return err
		}
	}
	return nil
}

// separate cuts the mounts off from the machine's, then shares them among the
// node's own namespaces: CSI plugins mount for other Pods.
func separate(layout.State) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cutting off the node's mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing mounts within the node: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting the node's /proc: %w", err)
	}
	return nil
}

func coverRun(layout.State) error {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting the node's /run: %w", err)
	}
	return makeDirs(layout.Private, "/run/lock", "/run/netns", "/run/containerd")
}

// coverTrees lets the node write below /etc and /var/lib without the machine
// noticing.
func coverTrees(layout.State) error {
	for _, tree := range []string{"/etc", "/var/lib"} {
		over := filepath.Join(layout.Private, "over", tree)
		upper, work := filepath.Join(over, "upper"), filepath.Join(over, "work")
		if err := makeDirs(upper, work); err != nil {
			return err
		}
		options := "lowerdir=" + tree + ",upperdir=" + upper + ",workdir=" + work
		if err := unix.Mount("overlay", tree, "overlay", 0, options); err != nil {
			return fmt.Errorf("covering '%s' for the node: %w", tree, err)
		}
	}
	return nil
}

// bindState puts what is big or worth reading afterwards into the state
// directory: containerd's and kubelet's files and the logs of Pods.
func bindState(state layout.State) error {
	for inside, name := range map[string]string{
		"/var/lib/containerd": "containerd", "/var/lib/kubelet": "kubelet", "/var/log": "pod-logs",
	} {
		if err := makeDirs(state.Path(name), inside); err != nil {
			return err
		}
		if err := bind(state.Path(name), inside); err != nil {
			return err
		}
	}
	return nil
}

// writeEtc is what an administrator would have set up on the node: the
// runtime's and the network's configuration, names, and whom to trust.
func writeEtc(state layout.State) error {
	if err := makeDirs("/etc/containerd/certs.d", "/etc/cni/net.d"); err != nil {
		return err
	}
	for path, name := range map[string]string{
		"/etc/containerd/config.toml": "containerd.toml", "/etc/cni/net.d/10-berth.conflist": "10-berth.conflist",
	} {
		content, err := os.ReadFile(state.Config(name))
		if err != nil {
			return fmt.Errorf("configuring the node: %w", err)
		}
		if err := write(path, content); err != nil {
			return err
		}
	}
	hosts := fmt.Sprintf("127.0.0.1 localhost\n%s %s\n%s %s\n", layout.NodeIP, layout.NodeName, layout.HarborIP, layout.HarborName)
	if err := write("/etc/hosts", []byte(hosts)); err != nil {
		return err
	}
	if err := write("/etc/resolv.conf", []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")); err != nil {
		return err
	}
	return trust(state.Harbor("ca.crt"))
}

// trust adds a CA to the bundle in which Go programs, curl and OpenSSL look
// for those of the machine.
func trust(caFile string) error {
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return fmt.Errorf("trusting the upstream's CA: %w", err)
	}
	trusted, err := os.ReadFile(bundle)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("trusting the upstream's CA: %w", err)
	}
	if err := makeDirs(filepath.Dir(bundle)); err != nil {
		return err
	}
	return write(bundle, append(append(trusted, '\n'), ca...))
}

// coverSysctls shows kubelet the values that it wants for settings of the
// whole machine, so that it has no need to write them.
func coverSysctls(layout.State) error {
	dir := filepath.Join(layout.Private, "sysctl")
	if err := makeDirs(dir); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, "/", "."))
		if err := write(path, []byte(value+"\n")); err != nil {
			return err
		}
		if err := bind(path, filepath.Join("/proc/sys", name)); err != nil {
			return err
		}
	}
	return nil
}

func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("showing '%s' as '%s': %w", source, target, err)
	}
	return nil
}

func makeDirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the node's directories: %w", err)
		}
	}
	return nil
}

// write replaces a file, and does not follow a link that stands in its place.
func write(path string, content []byte) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("replacing a file of the node: %w", err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return fmt.Errorf("writing a file of the node: %w", err)
	}
	return nil
}
