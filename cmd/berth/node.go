package main

import (
	"context"

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
}

func nodeCommand() *cobra.Command {
	var o nodeOptions
	c := &cobra.Command{
		Use:   "node",
		Short: "Lead this node's container runtime to the proxy",
		Long: "Write, for each Connector, the hosts.toml that leads containerd to Berth's proxy, since a node cannot\n" +
			"resolve names of the cluster. It needs to write below containerd's `config_path`, and nothing else.",
		Args: cobra.NoArgs,
		RunE: run(o.run),
	}
	o.add(c.Flags())
	c.Flags().StringVar(&o.clusterDomain, "cluster-domain", v1alpha1.ClusterDomain, "DNS suffix of the cluster's Services")
	c.Flags().StringVar(&o.hostsDir, "hosts-dir", "/etc/containerd/certs.d", "containerd's `config_path`, a folder of this node")
	return c
}

func (o *nodeOptions) run(ctx context.Context) error {
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
	if err := ready(mgr, map[string]func() bool{"hosts": node.Synced}); err != nil {
		return err
	}
	return mgr.Start(ctx)
}
