package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/csi"
)

// nodeOptions are the flags of `berth node`.
type nodeOptions struct {
	processOptions

	clusterDomain string
	hostsDir      string
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
			"the proxy makes for them. It needs to write below containerd's `config_path`, and to mount below kubelet's folder.",
		Args: cobra.NoArgs,
		RunE: run(o.run),
	}
	o.add(c.Flags())
	c.Flags().StringVar(&o.clusterDomain, "cluster-domain", v1alpha1.ClusterDomain, "DNS suffix of the cluster's Services")
	c.Flags().StringVar(&o.hostsDir, "hosts-dir", "/etc/containerd/certs.d", "containerd's `config_path`, a folder of this node")
	c.Flags().StringVar(&o.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "kubelet's root folder, which must have the same path here as on the node; empty: no CSI driver")
	c.Flags().StringVar(&o.nodeName, "node-name", "", "this node's name; the CSI driver needs it")
	return c
}

func (o *nodeOptions) run(ctx context.Context) error {
	if o.kubeletDir != "" && o.nodeName == "" {
		return badInput(errors.New("the CSI driver needs --node-name; without the driver: --kubelet-dir=''"))
	}
	dir, err := csi.NewHostsDir(o.hostsDir, o.clusterDomain)
	if err != nil {
		return err
	}
	mgr, err := o.manager(map[client.Object]cache.ByObject{
		&corev1.Service{}:   system(v1alpha1.ProxyService),
		&corev1.ConfigMap{}: system(v1alpha1.ProxyCA),
	}, nil)
	if err != nil {
		return err
	}
	node := &csi.Node{Client: mgr.GetClient(), Dir: dir}
	if err := node.Setup(mgr); err != nil {
		return err
	}
	conditions := map[string]func() bool{"hosts": node.Synced}
	if o.kubeletDir != "" {
		plugin := o.plugin(node)
		if err := mgr.Add(plugin); err != nil {
			return err
		}
		conditions["kubelet"] = plugin.Registered
	}
	if err := ready(mgr, conditions); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// plugin is the CSI driver of this node.
func (o *nodeOptions) plugin(node *csi.Node) *csi.Plugin {
	return &csi.Plugin{
		Publisher:  csi.NewPublisher(o.nodeName, csi.NewSource(node), csi.NewMounter(), slog.Default()),
		KubeletDir: o.kubeletDir, Version: version, Log: slog.Default(),
	}
}
