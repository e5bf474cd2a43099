package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/csi"
)

// nodeOptions are the flags of `berth node`.
type nodeOptions struct {
	processOptions

	clusterDomain string
	hostRoot      string
	hostsDir      string
	config        string
	kubeletDir    string
	nodeName      string
}

func nodeCommand() *cobra.Command {
	var o nodeOptions
	c := &cobra.Command{
		Use:   "node",
		Short: "Lead this node's container runtime to the proxy, and mount files for Pods",
		Long: "Write, for each Connector, the hosts.toml that leads containerd to Berth's proxy, since a node cannot\n" +
			"resolve names of the cluster; and be the CSI driver '" + v1alpha1.CSIDriver + "', which mounts for Pods the files that\n" +
			"the proxy makes for them. It needs to write below containerd's `config_path`, and to mount below kubelet's folder.\n" +
			"On nodes with CRI-O or Docker it writes what those need. Whether all stands is said in the Node's annotation\n" +
			"'" + v1alpha1.AnnotationNode + "', and then the startup taint '" + v1alpha1.TaintNotReady + "' is taken off.",
		Args: cobra.NoArgs,
		RunE: run(o.run),
	}
	o.add(c.Flags())
	c.Flags().StringVar(&o.clusterDomain, "cluster-domain", v1alpha1.ClusterDomain, "DNS suffix of the cluster's Services")
	c.Flags().StringVar(&o.hostRoot, "host-root", "/", "where the folders of this node are mounted, each under its own path")
	c.Flags().StringVar(&o.config, "containerd-config", "", "containerd's configuration, a file of this node; empty: where containerd, k3s and RKE2 have it")
	c.Flags().StringVar(&o.hostsDir, "hosts-dir", "", "containerd's `config_path`, a folder of this node; empty: what its configuration says")
	c.Flags().StringVar(&o.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "kubelet's root folder, which must have the same path here as on the node; empty: no CSI driver")
	c.Flags().StringVar(&o.nodeName, "node-name", "", "this node's name")
	return c
}

func (o *nodeOptions) run(ctx context.Context) error {
	if o.nodeName == "" {
		return badInput(errors.New("--node-name must be this node's name"))
	}
	host, err := os.OpenRoot(o.hostRoot)
	if err != nil {
		return badInput(fmt.Errorf("--host-root: %w", err))
	}
	mgr, err := o.manager(map[client.Object]cache.ByObject{
		&corev1.Service{}:   system(v1alpha1.ProxyService),
		&corev1.ConfigMap{}: system(v1alpha1.ProxyCA),
		&corev1.Node{}:      {Field: fields.OneTermEqualSelector("metadata.name", o.nodeName)},
	}, nil)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	node := &csi.Node{
		Client: mgr.GetClient(), Name: o.nodeName, End: end,
		Finder: &csi.Finder{Host: host, ClusterDomain: o.clusterDomain, HostsDir: o.hostsDir, Config: o.config},
	}
	conditions := map[string]func() bool{"hosts": node.Synced}
	if o.kubeletDir != "" {
		plugin := o.plugin(node)
		if err := mgr.Add(plugin); err != nil {
			return err
		}
		node.Driver, conditions["kubelet"] = plugin.Registered, plugin.Registered
	}
	if err := errors.Join(node.Setup(mgr), ready(mgr, conditions)); err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, csi.ErrReplaced) {
		return cause
	}
	return nil
}

// plugin is the CSI driver of this node.
func (o *nodeOptions) plugin(node *csi.Node) *csi.Plugin {
	return &csi.Plugin{
		Publisher:  csi.NewPublisher(o.nodeName, csi.NewSource(node), csi.NewMounter(), slog.Default()),
		KubeletDir: o.kubeletDir, Version: version, Log: slog.Default(),
	}
}
