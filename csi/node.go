package csi

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

// Node keeps a HostsDir as the cluster's Connectors and proxy are.
type Node struct {
	// Client reads from caches: the names of Connectors, the proxy's Service, and its ConfigMap.
	Client client.Client
	// Dir is the runtime's folder; Node alone uses it.
	Dir *HostsDir

	synced atomic.Bool
}

// Synced reports whether the files once were as the cluster's Connectors are.
func (n *Node) Synced() bool { return n.synced.Load() }

// Setup registers the reconciler. Whatever changes, there is one thing to do,
// so that a thousand changes at once are done in few passes.
func (n *Node) Setup(mgr ctrl.Manager) error {
	once := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: "hosts"}}}
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("hosts").
		Watches(&v1alpha1.Connector{}, once, builder.OnlyMetadata).
		Watches(&corev1.Service{}, once).
		Watches(&corev1.ConfigMap{}, once).
		Complete(n)
}

// Reconcile writes and removes files.
func (n *Node) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	proxy, err := n.proxy(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	connectors, err := n.connectors(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	if !proxy.ready() {
		ctrl.LoggerFrom(ctx).Info("wait for the proxy's Service and certificate authority")
		return reconcile.Result{}, nil
	}
	wrote, removed, err := n.Dir.Sync(connectors, proxy)
	if wrote+removed > 0 {
		ctrl.LoggerFrom(ctx).Info("hosts of Connectors", "wrote", wrote, "removed", removed, "connectors", len(connectors))
	}
	if err == nil {
		n.synced.Store(true)
	}
	return reconcile.Result{}, err
}

func (n *Node) connectors(ctx context.Context) ([]route.Connector, error) {
	var list metav1.PartialObjectMetadataList
	list.SetGroupVersionKind(v1alpha1.GroupVersion().WithKind("ConnectorList"))
	if err := n.Client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list the Connectors: %w", err)
	}
	connectors := make([]route.Connector, len(list.Items))
	for i := range list.Items {
		connectors[i] = route.Connector{Namespace: list.Items[i].Namespace, Name: list.Items[i].Name}
	}
	return connectors, nil
}

// proxy returns what is known of it; without a Service or a certificate it is not ready.
func (n *Node) proxy(ctx context.Context) (Proxy, error) {
	var proxy Proxy
	var service corev1.Service
	if err := n.Client.Get(ctx, types.NamespacedName{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyService}, &service); err != nil {
		return proxy, client.IgnoreNotFound(err)
	}
	var published corev1.ConfigMap
	if err := n.Client.Get(ctx, types.NamespacedName{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyCA}, &published); err != nil {
		return proxy, client.IgnoreNotFound(err)
	}
	for _, text := range service.Spec.ClusterIPs {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return proxy, fmt.Errorf("the Service '%s' must have a cluster IP, and has '%s': it may not be headless", v1alpha1.ProxyService, text)
		}
		proxy.Addresses = append(proxy.Addresses, address)
	}
	for _, port := range service.Spec.Ports {
		if port.Name == v1alpha1.ProxyPort {
			proxy.Port = uint16(port.Port) //nolint:gosec // a Service's port is within 1 and 65535
		}
	}
	proxy.CACert = []byte(published.Data[v1alpha1.CACertKey])
	return proxy, nil
}
