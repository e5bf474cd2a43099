package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"berth.dev/berth/egress"
	"berth.dev/berth/proxy/forward"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/proxy/upstream"
	"berth.dev/berth/static"
	"berth.dev/berth/token"
)

// quieten leaves the forward proxy out of a proxy without Kubernetes, unless it was asked for.
func (o *staticOptions) quieten(flags *pflag.FlagSet, f *forwardOptions) {
	if o.directory != "" && !flags.Changed("forward-address") {
		f.address = ""
	}
}

// staticForward returns the forward proxy of a proxy without Kubernetes, and what keeps its certificate authorities.
func (o *proxyOptions) staticForward(world *static.Directory, settings *configuration, registries *upstream.Registries, out *egress.Way) (*forwardServer, func(context.Context) error, error) {
	if o.static.interception == "" {
		return nil, nil, errors.New("'--forward-address' needs '--interception', a directory for the certificate authorities that clients are to trust")
	}
	policies := &policies{settings: settings}
	if _, err := policies.current(); err != nil {
		return nil, nil, err
	}
	authorities := forward.NewAuthorities(time.Now)
	interception, err := static.OpenInterception(o.static.interception, world.State(), authorities, time.Now)
	if err != nil {
		return nil, nil, err
	}
	server := &forwardServer{
		address: o.forward.address, serveOptions: o.serve,
		options: o.serve.limits.ofForward(forward.Options{
			Catalogue: world.Catalogue(), Upstream: registries, Authorities: authorities,
			Identity: identity.New(world.Keys, staticNamespaces{world}, time.Now, token.AudienceProxy),
			Egress:   out,
			Policy:   policies.of, Trusted: func() []string { return settings.now().TrustedNamespaces },
			Access: o.access, Log: slog.Default(), Metrics: metrics.Registry, Now: time.Now,
		}),
	}
	return server, func(ctx context.Context) error { return interception.Start(ctx, world) }, nil
}
