package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"berth.dev/berth/test/cluster/layout"
)

// connect makes the node's network and the upstream's, and the wire between
// them. There is no way out: what is not routed here is unreachable at once.
// Pods reach the upstream under their own addresses, so that its log tells
// who called.
func connect(ctx context.Context) error {
	if err := ip(ctx, "", []string{"netns add harbor"}); err != nil {
		return err
	}
	if err := ip(ctx, "", nodeLinks()); err != nil {
		return err
	}
	if err := ip(ctx, "harbor", harborLinks()); err != nil {
		return err
	}
	return forward()
}

func nodeLinks() []string {
	return []string{
		"link set lo up",
		"link add harbor0 type veth peer name eth0 netns harbor",
		"address add " + layout.NodeIP + "/24 dev harbor0",
		"link set harbor0 up",
		// packets to Services need a route before kube-proxy gives them an address
		"route add " + layout.ServiceCIDR + " dev harbor0 src " + layout.NodeIP,
	}
}

func harborLinks() []string {
	return []string{
		"link set lo up",
		"address add " + layout.HarborIP + "/24 dev eth0",
		"link set eth0 up",
		"route add " + layout.PodCIDR + " via " + layout.NodeIP,
	}
}

// ip runs ip(8) commands, in the named network namespace if one is named.
func ip(ctx context.Context, netns string, commands []string) error {
	args := []string{"-batch", "-"}
	if netns != "" {
		args = append([]string{"-netns", netns}, args...)
	}
	if netns == "" && strings.HasPrefix(commands[0], "netns ") { // not in batches: it changes namespaces
		args, commands = strings.Fields(commands[0]), nil
	}
	cmd := exec.CommandContext(ctx, "ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making the cluster's network: ip %s: %w: %s", strings.Join(args, " "), err, output)
	}
	return nil
}

// forward makes the node a router, and lets kube-proxy's rules see packets
// between Pods on one bridge. Both settings are the network namespace's own.
func forward() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("letting the node forward packets: %w", err)
	}
	err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("letting Services see packets on the Pods' bridge: %w", err)
	}
	return nil
}
