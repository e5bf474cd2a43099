package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/egress"
)

// apiServerService is the Service of the API server, in the namespace 'default'.
const apiServerService = "kubernetes"

// endpointSlices caches those of the API server, and of Berth's own Services.
func endpointSlices() cache.ByObject {
	return cache.ByObject{Namespaces: map[string]cache.Config{
		metav1.NamespaceDefault:  {LabelSelector: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: apiServerService})},
		v1alpha1.SystemNamespace: {},
	}}
}

// dialer is the way out to registries: never to the API server, nor to Berth itself, as far as a Pod's environment says
// where they are.
func dialer(denied ...netip.Prefix) *egress.Dialer {
	for _, name := range []string{"KUBERNETES_SERVICE_HOST", "BERTH_PROXY_SERVICE_HOST", "BERTH_WEBHOOK_SERVICE_HOST", "POD_IP"} {
		denied = append(denied, prefixes(os.Getenv(name))...)
	}
	return egress.NewDialer(denied...)
}

// clusterDialer is the dialer within a cluster. It keeps away from the Services of the API server and of Berth, and from
// what runs behind them, as that comes and goes; known reports whether it knows where.
func clusterDialer(ctx context.Context, mgr ctrl.Manager) (d *egress.Dialer, known func() bool, err error) {
	services, err := serviceAddresses(ctx, mgr.GetAPIReader())
	if err != nil {
		return nil, nil, err
	}
	endpoints, err := watchEndpoints(ctx, mgr.GetCache())
	if err != nil {
		return nil, nil, err
	}
	return dialer(services...).Avoiding(endpoints), endpoints.Known, nil
}

// serviceAddresses are those of the Services of the API server and of Berth, of both families.
func serviceAddresses(ctx context.Context, reader client.Reader) ([]netip.Prefix, error) {
	var found []netip.Prefix
	for _, name := range []types.NamespacedName{
		{Namespace: metav1.NamespaceDefault, Name: apiServerService},
		{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyService},
		{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.WebhookService},
	} {
		var s corev1.Service
		if err := reader.Get(ctx, name, &s); client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read where Service '%s' is, which is never dialled: %w", name, withRole(err))
		}
		found = append(found, prefixes(s.Spec.ClusterIPs...)...)
	}
	return found, nil
}

// prefixes are the addresses among the texts: a Service without one has 'None'.
func prefixes(texts ...string) (found []netip.Prefix) {
	for _, text := range texts {
		if ip, err := netip.ParseAddr(text); err == nil {
			found = append(found, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	return found
}

// watchEndpoints keeps the endpoints as the cached EndpointSlices are. They are known once all slices are, and an API server among them.
func watchEndpoints(ctx context.Context, informers cache.Cache) (*egress.Endpoints, error) {
	w := &whereabouts{slices: informers, endpoints: &egress.Endpoints{}}
	changed := func(*discoveryv1.EndpointSlice) { w.update(ctx) }
	synced, err := watch(ctx, informers, &discoveryv1.EndpointSlice{}, changed, changed)
	if err != nil {
		return nil, withRole(err)
	}
	w.synced = synced // nothing is called before the cache starts
	go func() {
		if toolscache.WaitForCacheSync(ctx.Done(), synced) {
			w.update(ctx)
		}
	}()
	return w.endpoints, nil
}

// whereabouts turn EndpointSlices into endpoints.
type whereabouts struct {
	slices    client.Reader
	synced    func() bool
	endpoints *egress.Endpoints

	mu        sync.Mutex       // each namespace's slices come by themselves
	apiServer []netip.AddrPort // the last that were any
}

// update sets the endpoints as the slices are now, once all are there and one is of an API server.
func (w *whereabouts) update(ctx context.Context) {
	if !w.synced() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var list discoveryv1.EndpointSliceList
	if err := w.slices.List(ctx, &list); err != nil {
		ctrl.Log.Error(err, "go on with the endpoints of the API server and of Berth from before")
		return
	}
	apiServer, berth := endpointsOf(list.Items)
	// An API server that ends takes itself out of its slice first, and where it is the only one, it will be there again.
	if len(apiServer) > 0 {
		w.apiServer = apiServer
	}
	if w.apiServer == nil {
		ctrl.Log.Info("nothing is dialled until the Service of the API server has an endpoint", "service", metav1.NamespaceDefault+"/"+apiServerService)
		return
	}
	w.endpoints.Set(w.apiServer, berth)
}

// endpointsOf are all endpoints in the slices, ready or not: what starts or ends can be reached, too.
func endpointsOf(slices []discoveryv1.EndpointSlice) (apiServer, berth []netip.AddrPort) {
	for i := range slices {
		if slices[i].Namespace == metav1.NamespaceDefault {
			apiServer = append(apiServer, addressesIn(&slices[i])...)
		} else {
			berth = append(berth, addressesIn(&slices[i])...)
		}
	}
	return apiServer, berth
}

// addressesIn are those of a slice, each with each of its ports, or with port 0 where it is of all. One that is a name
// has none.
func addressesIn(slice *discoveryv1.EndpointSlice) (all []netip.AddrPort) {
	ports := make([]uint16, 0, len(slice.Ports))
	for _, p := range slice.Ports {
		if p.Port == nil {
			ports = nil
			break
		}
		ports = append(ports, uint16(*p.Port)) //nolint:gosec // the API server takes no other
	}
	if len(ports) == 0 {
		ports = []uint16{0}
	}
	for _, endpoint := range slice.Endpoints {
		for _, text := range endpoint.Addresses {
			ip, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			for _, port := range ports {
				all = append(all, netip.AddrPortFrom(ip, port))
			}
		}
	}
	return all
}

// withRole adds to the error of a missing right which Role has it.
func withRole(err error) error {
	if !apierrors.IsForbidden(err) {
		return err
	}
	return fmt.Errorf("%w; apply manifests/base: its Role '%s' in that namespace has the right", err, v1alpha1.EndpointsRole)
}

// watchFailed says what to do where slices may not be watched. Until they may, what needs them is not ready.
func watchFailed(ctx context.Context, r *toolscache.Reflector, err error) {
	if s, ok := errors.AsType[*apierrors.StatusError](err); ok && s.ErrStatus.Details != nil && s.ErrStatus.Details.Kind == "endpointslices" {
		err = withRole(err)
	}
	toolscache.DefaultWatchErrorHandler(ctx, r, err)
}
