package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
	"berth.dev/berth/config"
	"berth.dev/berth/controller"
	"berth.dev/berth/egress"
	"berth.dev/berth/proxy/forward"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/token"
)

// forwardOptions are the flags of the forward proxy.
type forwardOptions struct {
	address       string
	configuration string
	out           outOptions
}

func (o *forwardOptions) add(flags *pflag.FlagSet) {
	flags.StringVar(&o.address, "forward-address", ":3128", "address that serves the forward proxy; empty: none does, nor, with --static, unless it is given")
	flags.StringVar(&o.configuration, "config", "", "configuration file, which says whose Connectors are trusted and where Pods may go; without one the defaults hold. It is read again when it changes")
	o.out.add(flags)
}

// secrets are those that the proxy may read: Berth's own by name, and the authorities of Connectors.
func (o *forwardOptions) secrets() cache.ByObject {
	own := system(v1alpha1.ProxyServing)
	if o.address != "" {
		own.Namespaces[v1alpha1.InterceptionNamespace] = cache.Config{}
	}
	return own
}

// useInterception takes over the authority of a Connector.
func (k *knowledge) useInterception(s *corev1.Secret) {
	name, uid, ok := controller.InterceptedConnector(s)
	if !ok {
		return
	}
	authorities, err := certs.ParseAuthorities(s.Data)
	if err != nil {
		ctrl.Log.Error(err, "go on with the certificate authority from before", "secret", s.Name)
		return
	}
	k.authorities.Use(name, uid, authorities)
}

func (k *knowledge) forgetInterception(s *corev1.Secret) {
	if name, _, ok := controller.InterceptedConnector(s); ok {
		k.authorities.Forget(name)
	}
}

// addForward adds the forward proxy to the manager, if there is to be one, and that it listens to what must be first.
func (o *proxyOptions) addForward(mgr ctrl.Manager, k *knowledge, synced map[string]func() bool) error {
	if o.forward.address == "" {
		return nil
	}
	policies := &policies{settings: k.settings}
	if _, err := policies.current(); err != nil {
		return err
	}
	server := &forwardServer{
		address: o.forward.address, serveOptions: o.serve,
		options: o.serve.limits.ofForward(forward.Options{
			Catalogue: &k.catalogue, Upstream: k.registries, Authorities: k.authorities,
			// Of the Secret 'berth-proxy', or of a volume's `http.proxy`.
			Identity: identity.Either{Berth: k.authenticator(token.AudienceProxy), ServiceAccounts: k.accounts},
			Egress:   k.out,
			Policy:   policies.of, Trusted: func() []string { return k.settings.now().TrustedNamespaces },
			Events: k.events.About(v1alpha1.ProxySecret), Access: k.access, Log: slog.Default(), Metrics: metrics.Registry, Now: time.Now,
		}),
	}
	synced[listensForward] = server.listens.Load
	return mgr.Add(server)
}

// policies compiles the configuration's policies once for each time that it was read.
type policies struct {
	settings *configuration
	last     atomic.Pointer[compiledPolicies]
}

type compiledPolicies struct {
	from *v1alpha1.Configuration
	to   *config.Egress
}

func (p *policies) current() (*config.Egress, error) {
	now := p.settings.now()
	if last := p.last.Load(); last != nil && last.from == now {
		return last.to, nil
	}
	compiled, err := config.NewEgress(&now.Proxy)
	if err != nil {
		return nil, fmt.Errorf("compile the egress policies: %w", err)
	}
	p.last.Store(&compiledPolicies{now, compiled})
	return compiled, nil
}

// of returns the policy of a namespace. One that does not compile was refused as the file was read; if it comes here all the same, nothing is open.
func (p *policies) of(namespace string) *egress.Policy {
	compiled, err := p.current()
	if err != nil {
		return &egress.Policy{Mode: egress.Connectors}
	}
	return compiled.Of(namespace)
}

// forwardServer serves the forward proxy, and lets tunnels end before it ends.
type forwardServer struct {
	serveOptions

	address string
	options forward.Options
	// listens is true once it does.
	listens atomic.Bool
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every replica serves.
func (*forwardServer) NeedLeaderElection() bool { return false }

// Start serves until the context ends, and then until the last tunnel has, or the time for that is over.
func (s *forwardServer) Start(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("serve the forward proxy: %w", err)
	}
	proxy := forward.New(s.options)
	var only http.Protocols
	only.SetHTTP1(true)
	h := &http.Server{
		Handler: parting(ctx, proxy), ReadHeaderTimeout: headerTimeout, IdleTimeout: s.limits.idle, MaxHeaderBytes: s.limits.headerBytes,
		Protocols: &only, ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	slog.InfoContext(ctx, "serve the forward proxy", "address", listener.Addr().String())
	s.listens.Store(true)
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(s.leave): // kube-proxies still send connections here
	}
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
	defer cancel()
	over := make(chan error, 1)
	go func() { over <- proxy.Shutdown(draining) }()
	err = errors.Join(h.Shutdown(draining), <-over)
	if errors.Is(err, context.DeadlineExceeded) { // what was left is closed
		return h.Close()
	}
	return err
}
