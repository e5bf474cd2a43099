package csi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

const (
	// lookAgain is how often all files are looked at, whether somebody changed them.
	lookAgain = 2 * time.Minute
	// tryAgain is how soon it is tried again where pulls do not work.
	tryAgain = 10 * time.Second
	// askDriver is how soon it is asked again whether kubelet has taken the CSI driver.
	askDriver = time.Second
	// mostMessage is the most bytes of a report's message.
	mostMessage = 512
)

// The two things to do.
const (
	change  = "change" // something in the cluster changed
	lookNow = "look"   // somebody may have changed files, or the runtime's configuration
)

// Node keeps the files of a node's container runtime as the cluster's Connectors
// and proxy are, and says on the Node object whether they stand.
type Node struct {
	// Client reads from caches: the names of Connectors, the proxy's Service and its ConfigMap, this Node; and patches this Node.
	Client client.Client
	// Name of this node.
	Name string
	// Finder finds where the files belong.
	Finder *Finder
	// Driver reports whether kubelet has taken the CSI driver; nil where there is none.
	Driver func() bool
	// End ends the process, where only its next start can see the node's files.
	End func(error)

	keeper keeper
	path   string
	stand  bool // the files, after the last pass
	synced atomic.Bool
}

// Synced reports whether the files once were as the cluster's Connectors are.
func (n *Node) Synced() bool { return n.synced.Load() }

// Setup registers the reconciler. Whatever changes, there is one thing to do,
// so that a thousand changes at once are done in few passes.
func (n *Node) Setup(mgr ctrl.Manager) error {
	once := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{request(change)}
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("hosts").
		Watches(&v1alpha1.Connector{}, once, builder.OnlyMetadata).
		Watches(&corev1.Service{}, once).
		Watches(&corev1.ConfigMap{}, once).
		Watches(&corev1.Node{}, once).
		WatchesRawSource(source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			queue.Add(request(lookNow))
			return nil
		})).
		Complete(n)
}

func request(what string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: what}}
}

// Reconcile writes and removes files, and reports.
func (n *Node) Reconcile(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
	var node corev1.Node
	if err := n.Client.Get(ctx, types.NamespacedName{Name: n.Name}, &node); err != nil {
		return reconcile.Result{}, fmt.Errorf("read Node '%s': %w", n.Name, err)
	}
	report := v1alpha1.NodeReport{Runtime: node.Status.NodeInfo.ContainerRuntimeVersion}
	err := n.keep(ctx, report.Runtime, r.Name == lookNow || !n.stand)
	n.stand = err == nil
	if errors.Is(err, ErrReplaced) {
		n.End(err)
	}
	if n.stand {
		n.synced.Store(true)
		err = n.driver()
	}
	report.Ready, report.Reason, report.Path = err == nil, v1alpha1.NodeReasonReady, n.path
	if err != nil {
		ctrl.LoggerFrom(ctx).Info("this node is not ready", "error", err.Error())
		report.Reason, report.Message = reasonOf(err), oneLine(err.Error())
	}
	if err := n.tell(ctx, &node, report); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: again(r.Name, report)}, nil
}

// again is how soon the same is to be done again; 0 is when something changes.
func again(what string, report v1alpha1.NodeReport) time.Duration {
	switch {
	case report.Reason == v1alpha1.NodeReasonDriverPending:
		return askDriver
	case !report.Ready:
		return tryAgain
	case what == lookNow:
		return lookAgain
	}
	return 0
}

// oneLine is a text for a report.
func oneLine(text string) string {
	text = strings.ReplaceAll(text, "\n", "; ")
	if len(text) > mostMessage {
		text = text[:mostMessage-len("…")] + "…"
	}
	return strings.ToValidUTF8(text, "")
}

// keep brings the files to what they should be; anew is with a fresh look at the
// runtime's configuration and at what stands.
func (n *Node) keep(ctx context.Context, runtime string, anew bool) error {
	proxy, err := n.proxy(ctx)
	if err != nil {
		return err
	}
	connectors, err := n.connectors(ctx)
	if err != nil {
		return err
	}
	if anew {
		if err := n.find(runtime); err != nil {
			return err
		}
	}
	if !proxy.ready() {
		return &Unready{v1alpha1.NodeReasonProxyPending, errors.New("wait for the proxy's Service and certificate authority")}
	}
	wrote, removed, err := n.keeper.Sync(connectors, proxy)
	if wrote+removed > 0 {
		ctrl.LoggerFrom(ctx).Info("hosts of Connectors", "wrote", wrote, "removed", removed, "connectors", len(connectors))
	}
	return err
}

// driver is an error until kubelet has taken the CSI driver.
func (n *Node) driver() error {
	if n.Driver != nil && !n.Driver() {
		return &Unready{v1alpha1.NodeReasonDriverPending, errors.New("wait for kubelet to take the CSI driver")}
	}
	return nil
}

// find looks where the files belong, and what stands there.
func (n *Node) find(runtime string) (err error) {
	if n.keeper != nil {
		if err := n.keeper.Close(); err != nil {
			return err
		}
		n.keeper = nil
	}
	n.keeper, n.path, err = n.Finder.find(runtime)
	return err
}

// tell writes the report on the Node where it changed, and takes off the startup
// taint once all is ready.
func (n *Node) tell(ctx context.Context, node *corev1.Node, report v1alpha1.NodeReport) error {
	text, err := json.Marshal(report)
	if err != nil {
		return err
	}
	next, patch := node.DeepCopy(), client.MergeFrom(node)
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, v1alpha1.AnnotationNode, string(text))
	if report.Ready {
		next.Spec.Taints = slices.DeleteFunc(next.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintNotReady })
	}
	taken := len(next.Spec.Taints) < len(node.Spec.Taints)
	if !taken && node.Annotations[v1alpha1.AnnotationNode] == string(text) {
		return nil
	}
	if taken { // the list goes as a whole, and others write it too
		patch = client.MergeFromWithOptions(node, client.MergeFromWithOptimisticLock{})
	}
	if err := n.Client.Patch(ctx, next, patch); err != nil {
		return fmt.Errorf("report on Node '%s': %w", n.Name, err)
	}
	ctrl.LoggerFrom(ctx).Info("reported on the Node", "reason", report.Reason, "taint taken off", taken)
	return nil
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
			return proxy, &Unready{v1alpha1.NodeReasonProxyPending, fmt.Errorf("the Service '%s' must have a cluster IP, and has '%s': it may not be headless", v1alpha1.ProxyService, text)}
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
