package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/kubernetes"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
	"berth.dev/berth/controller"
	"berth.dev/berth/egress"
	"berth.dev/berth/proxy/accesslog"
	"berth.dev/berth/proxy/credential"
	"berth.dev/berth/proxy/event"
	"berth.dev/berth/proxy/forward"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/proxy/registry"
	"berth.dev/berth/proxy/upstream"
	"berth.dev/berth/route"
	"berth.dev/berth/secret"
	"berth.dev/berth/token"
)

// proxyOptions are the flags of `berth proxy`.
type proxyOptions struct {
	processOptions

	clusterDomain string
	serve         serveOptions
	forward       forwardOptions
	static        staticOptions

	access accesslog.Log
}

func proxyCommand() *cobra.Command {
	var o proxyOptions
	c := &cobra.Command{
		Use:   "proxy",
		Short: "Run the registry reverse proxy and the forward proxy",
		Long: "Run the reverse proxy that adds the credential toward registries. It serves\n" +
			"/v2/namespaces/NAMESPACE/connectors/NAME/REPOSITORY/… over TLS to whoever shows a berth token, and what\n" +
			"a Connector's class opens of the server's own API at /namespaces/NAMESPACE/connectors/NAME/PATH.\n" +
			"Beside it runs the forward proxy, which HTTP_PROXY names in containers.\n" +
			"It needs the rights that the manifests give to the ServiceAccount 'berth-proxy'.\n\n" +
			"With --static it needs no Kubernetes: Connectors and all that belongs to them come from a directory\n" +
			"of manifests, and 'berth token' makes the tokens.",
		Example: proxyExample,
		Args:    cobra.NoArgs,
		PreRun:  func(c *cobra.Command, _ []string) { o.static.quieten(c.Flags(), &o.forward) },
		RunE:    run(o.run),
	}
	o.add(c.Flags())
	o.serve.add(c.Flags())
	o.forward.add(c.Flags())
	o.static.add(c.Flags())
	c.Flags().StringVar(&o.clusterDomain, "cluster-domain", v1alpha1.ClusterDomain, "DNS suffix of the cluster's Services")
	return c
}

// knowledge is what the proxy learns from the cluster while it runs.
type knowledge struct {
	access    accesslog.Log
	catalogue access.Catalogue
	keys      atomic.Pointer[token.PublicKeys]
	addresses atomic.Pointer[[]netip.Addr]
	minter    *certs.Minter
	// settings are the configuration file's.
	settings *configuration
	// authorities sign for the hosts of Connectors.
	authorities *forward.Authorities
	// registries, namespaces and accounts are there once handler was called.
	registries *upstream.Registries
	namespaces namespaceStore
	accounts   *identity.ServiceAccounts
	// domain is the DNS suffix of Services.
	domain string
	files  files
	// out leads to registries, and to all else.
	out *egress.Way
	// pods is where tokens may be shown from; nil: from everywhere.
	pods identity.Pods
	// events tell namespaces why their requests failed.
	events *event.Teller
}

// logAccess begins the access log, which goes where all else is logged, as far as its level is asked for.
func (o *proxyOptions) logAccess(ctx context.Context) (flush func()) {
	lines := accesslog.NewBatch(os.Stderr)
	if slog.Default().Enabled(ctx, slog.LevelInfo) {
		o.access = accesslog.New(lines)
	}
	return lines.Flush
}

func (o *proxyOptions) run(ctx context.Context) error {
	if err := o.serve.limits.check(); err != nil {
		return badInput(err)
	}
	paceCollector()
	defer o.logAccess(ctx)()
	if o.static.directory != "" && o.serve.checkSources {
		return badInput(errors.New("'--check-sources' may not stand with '--static': there are no Pods to look at"))
	}
	if o.static.directory != "" {
		return o.runStatic(ctx)
	}
	if err := o.static.refuse(); err != nil {
		return badInput(err)
	}
	k := &knowledge{access: o.access, domain: o.clusterDomain, authorities: forward.NewAuthorities(time.Now)}
	k.minter = certs.NewMinter(k.subjects, time.Now)
	var err error
	if k.settings, err = newConfiguration(o.forward.configuration); err != nil {
		return err
	}
	mgr, err := o.manager(map[client.Object]cache.ByObject{
		&corev1.ConfigMap{}:          system(v1alpha1.TokenKeys),
		&corev1.Secret{}:             o.forward.secrets(),
		&corev1.Pod{}:                {Transform: leanPod},
		&discoveryv1.EndpointSlice{}: endpointSlices(),
	}, func(m *ctrl.Options) { m.GracefulShutdownTimeout = new(o.serve.leave + o.serve.drain + headerTimeout) })
	if err != nil {
		return err
	}
	synced, err := k.learn(ctx, mgr)
	if err != nil {
		return err
	}
	dialer, known, err := clusterDialer(ctx, mgr)
	if err != nil {
		return err
	}
	k.out, synced["endpoints"] = o.forward.out.way(k.settings, dialer), known
	if o.serve.checkSources {
		if k.pods, synced["pods"], err = watchPods(ctx, mgr.GetCache()); err != nil {
			return err
		}
	}
	handler, err := k.handler(ctx, mgr, synced, o.serve.limits)
	if err != nil {
		return err
	}
	front := &server{serveOptions: o.serve, handler: handler, certificate: k.minter.GetCertificate}
	synced[listensRegistries] = front.listens.Load
	if err := errors.Join(mgr.Add(front), mgr.Add(k.settings), o.addForward(mgr, k, synced)); err != nil {
		return err
	}
	if err := ready(mgr, synced); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// learn fills the knowledge from watches, and returns what must be there before the proxy is ready.
func (k *knowledge) learn(ctx context.Context, mgr ctrl.Manager) (map[string]func() bool, error) {
	informers := mgr.GetCache()
	secrets, err := watch(ctx, informers, &corev1.Secret{}, func(s *corev1.Secret) {
		if authorities := useAuthorities(k.minter, s, v1alpha1.ProxyServing); len(authorities) > 0 {
			k.addresses.Store(new(authorities[len(authorities)-1].Scope().Addresses))
			k.files.authority.Store(new(authorities.Bundle()))
		}
		k.useInterception(s)
	}, k.forgetInterception)
	if err != nil {
		return nil, err
	}
	if _, err = watch(ctx, informers, &corev1.ConfigMap{}, k.useKeys, nil); err != nil {
		return nil, err
	}
	return map[string]func() bool{
		"secrets": secrets, "certificate": k.minter.Ready,
		"token-keys": func() bool { return k.keys.Load() != nil },
	}, nil
}

func (k *knowledge) useKeys(published *corev1.ConfigMap) {
	if published.Name != v1alpha1.TokenKeys {
		return
	}
	keys, err := token.ParsePublicKeys([]byte(published.Data[v1alpha1.TokenKeysFile]))
	if err != nil {
		ctrl.Log.Error(err, "go on with the token keys from before", "configmap", published.Name)
		return
	}
	k.keys.Store(&keys)
}

// subjects says what the certificate for a server name holds. containerd dials
// an address and names no server: the default certificate has the addresses.
func (k *knowledge) subjects(serverName string) (names []string, addresses []netip.Addr) {
	service := v1alpha1.ProxyService + "." + v1alpha1.SystemNamespace + ".svc"
	if serverName == "" || serverName == service || serverName == service+"."+k.domain {
		if known := k.addresses.Load(); known != nil {
			addresses = *known
		}
		return []string{service, service + "." + k.domain}, addresses
	}
	name, err := route.ParseHost(serverName, k.domain)
	if err != nil { // a client in a Pod may leave the cluster's domain to its resolver
		name, err = route.ParseHost(serverName+"."+k.domain, k.domain)
	}
	if _, known := k.catalogue.Get(name); err != nil || !known {
		return nil, nil
	}
	host := name.Host(k.domain)
	return []string{host, host[:len(host)-len(k.domain)-1]}, nil
}

// handler wires the rooms of the proxy together, and adds to what must be there first.
func (k *knowledge) handler(ctx context.Context, mgr ctrl.Manager, synced map[string]func() bool, limits limitOptions) (http.Handler, error) {
	clients, err := kubernetes.NewForConfig(mgr.GetConfig())
	if err != nil {
		return nil, err
	}
	k.events = event.NewTeller(ctx, clients)
	follower := secret.NewFollower(ctx, clients, nil)
	k.registries = upstream.New(credential.NewSource(follower), k.out, upstream.Timeouts{})
	synced["connectors"], err = fillCatalogue(ctx, mgr.GetCache(), &k.catalogue, func(c *v1alpha1.Connector) { //nolint:contextcheck // the follower's watches end with its own context
		name := route.Connector{Namespace: c.Namespace, Name: c.Name}
		if _, still := k.catalogue.Get(name); still {
			follower.Follow(name, controller.SecretsOf(c)...)
			k.files.trust(name, c)
		} else {
			follower.Follow(name)
			k.files.interception.Delete(name)
			k.registries.Forget(c.UID)
		}
	})
	if err != nil {
		return nil, err
	}
	synced["classes"], err = fillClasses(ctx, mgr.GetCache(), &k.catalogue)
	if err != nil {
		return nil, err
	}
	synced["configurations"], err = k.files.fill(ctx, mgr.GetCache())
	if err != nil {
		return nil, err
	}
	namespaces, err := mgr.GetCache().GetInformer(ctx, &corev1.Namespace{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, err
	}
	synced["namespaces"] = namespaces.HasSynced
	shared, ok := namespaces.(toolscache.SharedIndexInformer)
	if !ok {
		return nil, fmt.Errorf("the cache has no store of its own: %T", namespaces)
	}
	k.namespaces = namespaceStore{shared.GetStore()}
	k.accounts, err = serviceAccounts(mgr.GetConfig(), k.namespaces)
	if err != nil {
		return nil, err
	}
	return k.files.handler(k, registry.New(limits.ofRegistry(registry.Options{
		Catalogue: &k.catalogue,
		Identity: identity.Either{
			Berth:           k.authenticator(token.AudiencePull, token.AudienceProxy),
			ServiceAccounts: k.accounts,
		},
		Upstream: k.registries,

		ClusterDomain: k.domain, Access: k.access, Now: time.Now,
		Metrics: metrics.Registry, Events: k.events,
	})))
}

// authenticator takes tokens of any of the audiences, once the namespaces are there.
func (k *knowledge) authenticator(audiences ...token.Audience) *identity.Authenticator {
	a := identity.New(k.keys.Load, k.namespaces, time.Now, audiences...)
	if k.pods != nil {
		a.CheckSources(k.pods)
	}
	return a
}

// namespaceStore reads Namespaces where the informer keeps them, without a copy.
type namespaceStore struct {
	toolscache.Store
}

// Namespace implements identity.Namespaces.
func (s namespaceStore) Namespace(name string) (identity.Namespace, bool) {
	item, exists, err := s.GetByKey(name)
	namespace, ok := item.(*corev1.Namespace)
	if err != nil || !exists || !ok {
		return identity.Namespace{}, false
	}
	return identity.Namespace{
		UID: string(namespace.UID), Labels: namespace.Labels, Generation: namespace.Annotations[v1alpha1.AnnotationTokenGeneration],
	}, true
}
