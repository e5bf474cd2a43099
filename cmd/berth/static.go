package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"berth.dev/berth/access"
	"berth.dev/berth/proxy/credential"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/proxy/registry"
	"berth.dev/berth/proxy/upstream"
	"berth.dev/berth/static"
	"berth.dev/berth/token"
)

const proxyExample = `  # without Kubernetes: docs/static.md has the whole example
  berth proxy --static /etc/berth --tls-certificate tls.crt --tls-key tls.key`

// certificateAgain is how often the certificate's files are looked at, beside the watch of them.
const certificateAgain = time.Second

// staticOptions are the flags of a proxy without Kubernetes.
type staticOptions struct {
	directory                string
	certificateFile, keyFile string
	interception             string
	allowed                  []string
}

func (o *staticOptions) add(flags *pflag.FlagSet) {
	flags.StringVar(&o.directory, "static", "", "directory of manifests that takes the place of Kubernetes; it is read again when it changes")
	flags.StringVar(&o.certificateFile, "tls-certificate", "", "with --static: PEM file of the certificate, and those between it and its authority; it is read again when it changes")
	flags.StringVar(&o.keyFile, "tls-key", "", "with --static: PEM file of the certificate's key")
	flags.StringVar(&o.interception, "interception", "",
		"with --static and --forward-address: directory that keeps the certificate authorities of the forward proxy, with their keys; clients are to trust the 'ca.crt' in it")
	flags.StringSliceVar(&o.allowed, "allow-addresses", nil,
		"with --static: networks such as '127.0.0.0/8' that are dialled although they are loopback, link-local or reserved; dangerous, "+
			"since who writes a Connector then reaches what listens there")
}

// refuse is for a proxy in a cluster, where none of the flags may stand.
func (o *staticOptions) refuse() error {
	if o.certificateFile != "" || o.keyFile != "" || o.interception != "" || len(o.allowed) > 0 {
		return errors.New("'--tls-certificate', '--tls-key', '--interception' and '--allow-addresses' may only stand with '--static'")
	}
	return nil
}

// networks are the allowed addresses, parsed.
func (o *staticOptions) networks() ([]netip.Prefix, error) {
	networks := make([]netip.Prefix, 0, len(o.allowed))
	for _, text := range o.allowed {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("'--allow-addresses %s' must be a network such as '127.0.0.0/8'", text)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// runStatic is the proxy without Kubernetes.
func (o *proxyOptions) runStatic(ctx context.Context) error {
	certificates, err := o.certificates()
	if err != nil {
		return badInput(err)
	}
	networks, err := o.static.networks()
	if err != nil {
		return badInput(err)
	}
	world, err := static.Open(o.static.directory, static.Reader{Allowed: networks}, slog.Default())
	if err != nil {
		return badInput(err)
	}
	settings, err := newConfiguration(o.forward.configuration)
	if err != nil {
		return badInput(err)
	}
	out := o.forward.out.way(settings, dialer().Allowing(networks...))
	registries := upstream.New(credential.NewSource(world), out, upstream.Timeouts{})
	front := &server{serveOptions: o.serve, handler: registry.New(o.serve.limits.ofRegistry(registry.Options{
		Catalogue: world.Catalogue(),
		Identity:  identity.New(world.Keys, staticNamespaces{world}, time.Now, token.AudiencePull, token.AudienceProxy),
		Upstream:  registries,

		ClusterDomain: o.clusterDomain, Access: o.access, Now: time.Now, Metrics: metrics.Registry,
	}))}
	metered, err := metricsserver.NewServer(metricsserver.Options{BindAddress: o.metricsAddress}, nil, nil)
	if err != nil {
		return err
	}
	listening := map[string]func() bool{listensRegistries: front.listens.Load}
	beside := []func(context.Context) error{
		func(ctx context.Context) error {
			return world.Start(ctx, func(c *access.Connector) { registries.Forget(c.UID) })
		},
		func(ctx context.Context) error { return o.serveHealth(ctx, listening) }, settings.Start,
	}
	if metered != nil {
		beside = append(beside, metered.Start)
	}
	serve := front.Start
	if o.forward.address != "" {
		forward, interception, err := o.staticForward(world, settings, registries, out)
		if err != nil {
			return badInput(err)
		}
		serve, listening[listensForward] = alongside(serve, forward.Start), forward.listens.Load
		beside = append(beside, interception)
	}
	if certificates != nil {
		front.certificate = certificates.GetCertificate
		beside = append(beside, certificates.Start)
	}
	return together(ctx, serve, beside...)
}

// together runs the server until it ends, and what runs beside it until then, so that it is there while requests
// come to their end.
func together(ctx context.Context, server func(context.Context) error, beside ...func(context.Context) error) error {
	outlasting, stop := context.WithCancel(context.WithoutCancel(ctx))
	group, failing := errgroup.WithContext(outlasting)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(failing, cancel) // one that fails ends the server
	for _, run := range beside {
		group.Go(func() error { return run(failing) })
	}
	err := server(ctx)
	stop()
	return errors.Join(err, group.Wait())
}

// alongside runs servers until each has ended; one that fails ends the others.
func alongside(servers ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		group, failing := errgroup.WithContext(ctx)
		for _, serve := range servers {
			group.Go(func() error { return serve(failing) })
		}
		return group.Wait()
	}
}

// certificates follows the files of the certificate; it is nil where there is none.
func (o *proxyOptions) certificates() (*certwatcher.CertWatcher, error) {
	switch {
	case (o.static.certificateFile == "") != (o.static.keyFile == ""):
		return nil, errors.New("'--tls-certificate' and '--tls-key' must stand together")
	case o.static.certificateFile != "":
		w, err := certwatcher.New(o.static.certificateFile, o.static.keyFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate: %w", err)
		}
		return w.WithWatchInterval(certificateAgain), nil
	case o.serve.httpAddress == "":
		return nil, errors.New("'--static' needs '--tls-certificate' and '--tls-key', or '--http-address' for plain HTTP")
	default:
		return nil, nil //nolint:nilnil // plain HTTP alone
	}
}

// serveHealth answers /healthz and /readyz, as the manager does in a cluster. What is served was read before.
func (o *proxyOptions) serveHealth(ctx context.Context, listening map[string]func() bool) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.healthAddress)
	if err != nil {
		return fmt.Errorf("serve health: %w", err)
	}
	slog.InfoContext(ctx, "serve health", "address", listener.Addr().String())
	h := &http.Server{Handler: health(listening), ReadHeaderTimeout: headerTimeout, IdleTimeout: o.serve.limits.idle, MaxHeaderBytes: o.serve.limits.headerBytes}
	context.AfterFunc(ctx, func() { _ = h.Close() })
	if err := h.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}

// health answers /healthz, and /readyz by the conditions of being ready.
func health(conditions map[string]func() bool) http.Handler {
	mux := http.NewServeMux()
	for path, asked := range map[string]map[string]healthz.Checker{"/healthz": {"alive": healthz.Ping}, "/readyz": checks(conditions)} {
		answers := http.StripPrefix(path, &healthz.Handler{Checks: asked})
		mux.Handle(path, answers)
		mux.Handle(path+"/", answers)
	}
	return mux
}

// staticNamespaces are the namespaces of a directory.
type staticNamespaces struct {
	directory *static.Directory
}

// Namespace implements identity.Namespaces.
func (n staticNamespaces) Namespace(name string) (identity.Namespace, bool) {
	uid, labels := n.directory.State().Namespace(name)
	return identity.Namespace{UID: uid, Labels: labels}, true
}
