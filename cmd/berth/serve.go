package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"berth.dev/berth/proxy/stream"
)

// headerTimeout is what a client may take for a header; a body has no deadline,
// but the handler watches that it moves.
const headerTimeout = 10 * time.Second

// serveOptions are the flags about how registries are served.
type serveOptions struct {
	registryAddress string
	httpAddress     string
	drain           time.Duration
	leave           time.Duration
	limits          limitOptions
	checkSources    bool
}

func (o *serveOptions) add(flags *pflag.FlagSet) {
	flags.StringVar(&o.registryAddress, "registry-address", ":8443", "address that serves registries over TLS")
	flags.StringVar(&o.httpAddress, "http-address", "", "address that serves registries over plain HTTP too, where tokens can be read on their way; without one none does")
	flags.DurationVar(&o.leave, "leave", 3*time.Second, "how long to serve on after the signal to end, until no new connection is sent here")
	flags.DurationVar(&o.drain, "drain", 280*time.Second, "how long requests may take to their end after that")
	flags.BoolVar(&o.checkSources, "check-sources", false,
		"in a cluster: take the tokens of Secrets 'berth-proxy' from addresses of Pods of their namespace alone; needs the right to watch Pods (manifests/check-sources)")
	o.limits.add(flags)
}

// What is asked for by /readyz beside what must be known.
const (
	listensRegistries = "registries-listen"
	listensForward    = "forward-listens"
)

// server serves registries, and lets requests end before it ends.
type server struct {
	serveOptions

	handler http.Handler
	// certificate is that of the TLS front; without it there is none.
	certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// listens is true once all fronts do.
	listens atomic.Bool
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every replica serves.
func (*server) NeedLeaderElection() bool { return false }

// Start serves until the context ends and then until the last request has.
func (s *server) Start(ctx context.Context) error {
	h := &http.Server{
		Handler: parting(ctx, s.handler), ReadHeaderTimeout: headerTimeout, IdleTimeout: s.limits.idle, MaxHeaderBytes: s.limits.headerBytes,
		// HTTP/2 is named here: where a plain front starts first, the server would offer it and not speak it.
		TLSConfig:   &tls.Config{GetCertificate: s.certificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}},
		ConnContext: stream.ConnContext,
		ErrorLog:    slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	ended, err := s.listen(ctx, h)
	if err != nil {
		return errors.Join(err, h.Close())
	}
	s.listens.Store(true)
	select {
	case err := <-ended:
		return errors.Join(err, h.Close())
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return errors.Join(err, h.Close())
	case <-time.After(s.leave): // kube-proxies still send connections here
	}
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
	defer cancel()
	if err := h.Shutdown(draining); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(err, h.Close())
	}
	return nil
}

// parting has each connection end with its next answer once the context has
// ended: clients connect anew, to where they are sent then, and none meets the
// end of a connection just as it sends a request that may not be sent twice.
func parting(ctx context.Context, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ctx.Err() != nil {
			w.Header().Set("Connection", "close")
		}
		handler.ServeHTTP(w, r)
	})
}

// listen starts the fronts, over TLS and plain, and returns how each ends.
func (s *server) listen(ctx context.Context, h *http.Server) (<-chan error, error) {
	fronts := []struct {
		name, address string
		serve         func(net.Listener) error
	}{
		{"HTTPS", s.registryAddress, func(l net.Listener) error { return h.ServeTLS(stream.NewBuffers().Listen(l), "", "") }},
		{"HTTP", s.httpAddress, h.Serve},
	}
	if s.certificate == nil {
		fronts = fronts[1:]
	}
	ended := make(chan error, len(fronts))
	for _, front := range fronts {
		if front.address == "" {
			continue
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", front.address)
		if err != nil {
			return nil, fmt.Errorf("serve registries over %s: %w", front.name, err)
		}
		slog.InfoContext(ctx, "serve registries", "over", front.name, "address", listener.Addr().String())
		go func() { ended <- front.serve(listener) }()
	}
	return ended, nil
}
