// Package forward is the forward proxy: what HTTP_PROXY names in a container.
//
//	HTTP_PROXY=http://berth:TOKEN@berth-proxy.berth-system.svc:3128
//
// A client asks it for a tunnel (CONNECT), or sends it a request for a whole URL.
// Where that leads to the address of a Connector that the client's namespace may
// use, Berth stands in between: it ends TLS with a certificate of the Connector's
// own authority, looks at each request, and sends it on to that address with the
// Connector's credential (package upstream). Everything else is a tunnel of
// bytes that Berth does not look into, as far as the administrator's policy lets
// it (package egress).
//
// The credential follows the address of the tunnel and nothing that a request
// says: one whose Host is another is refused (421). A request is let through
// where the Connector's rules grant what its path and method mean, by the grammar
// of package endpoint, and to the letter. One that signs in by itself is
// sent as it is, and gets no credential. Which Connectors count for a client is
// decided as for images: its own namespace's, trusted ones, or those that it names in the
// user of the proxy's URL.
//
// A token is looked at for each request, also within a tunnel that stands for
// hours, and every two seconds for a tunnel that is not looked into: what is
// withdrawn is withdrawn. An answer that has begun goes on to its end.
//
// goproxy tells tunnels from requests, and sends requests to other hosts on. It
// never sees what is in a tunnel: its own interception routes by the Host of the
// inner request, and so would hand the credential to whom the client says.
package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/elazarl/goproxy"
	"github.com/prometheus/client_golang/prometheus"

	"berth.dev/berth/access"
	"berth.dev/berth/bearer"
	"berth.dev/berth/egress"
	"berth.dev/berth/proxy/accesslog"
	"berth.dev/berth/proxy/http1"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/proxy/stream"
)

// Identities say whose a token is. *identity.Authenticator is one.
type Identities interface {
	// Verify returns an error of package identity for a token that is no good.
	Verify(raw string) (identity.Identity, error)
	// Locate returns one for a caller that may not show its token from that address.
	Locate(ctx context.Context, caller identity.Identity, remote string) error
}

// Upstream sends requests to the registries of Connectors. *upstream.Registries is one.
type Upstream interface {
	// RoundTrip sends a request to the path and query of its URL with the Connector's credential, or with a token of
	// those scopes where the registry has a token service; its errors are those of package upstream.
	RoundTrip(c *access.Connector, r *http.Request, scopes ...bearer.Scope) (*http.Response, error)
	// Pass sends it with what the client itself signs in with.
	Pass(c *access.Connector, r *http.Request) (*http.Response, error)
}

// Egress is the way out to all other hosts. *egress.Way is one.
type Egress interface {
	// Open connects to a target; the error wraps one of package egress where that may not be.
	Open(ctx context.Context, p *egress.Policy, to egress.Target) (net.Conn, error)
	// Through returns the parent proxy by which requests for a target are sent, or nil; its errors are those of Open.
	Through(ctx context.Context, p *egress.Policy, to egress.Target) (*egress.Parent, error)
	// DialContext connects to a parent proxy.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Events tells namespaces why their requests failed. *event.Teller is one.
type Events interface {
	// Event must not wait. The message is for people, and holds no token, path, query or credential.
	Event(namespace, reason, message string)
}

// Options are what the proxy is made of. All but the bounds must be set.
type Options struct {
	// Catalogue holds the Connectors.
	Catalogue *access.Catalogue
	// Identity says who calls; the tokens are of audience 'proxy'.
	Identity Identities
	// Upstream leads to the registries.
	Upstream Upstream
	// Egress leads everywhere else, as far as Policy lets a namespace.
	Egress Egress
	Policy func(namespace string) *egress.Policy
	// Trusted are the namespaces whose Connectors count for all without being named.
	Trusted func() []string
	// Authorities sign for the Connectors' hosts.
	Authorities *Authorities
	// Access is the access log, and Log is for all else.
	Access accesslog.Log
	Log    *slog.Logger
	// Events tells callers why their requests failed; nil tells nobody.
	Events Events
	// Metrics is where the proxy's metrics are registered; nil is nowhere.
	Metrics prometheus.Registerer
	// Now is the clock.
	Now func() time.Time

	Limits
}

// Proxy is the forward proxy, a handler for a server of plain HTTP/1. Make it by
// New, and end it by Shutdown: the server that it stands in forgets its tunnels.
type Proxy struct {
	Options

	dispatcher *goproxy.ProxyHttpServer
	plain      *http.Transport
	failures   *identity.Failures
	places     *places
	flights    *places
	metrics    *metrics
	tunnels    *tunnels
	buffers    *stream.Buffers

	secure  *tls.Config
	http1   *http1.Server
	http2   *http.Server
	handoff *handoff
	end     func() // of what runs until Shutdown
}

// New returns a proxy that is ready to serve.
func New(o Options) *Proxy {
	o.Limits = o.orDefaults()
	p := &Proxy{
		Options: o, failures: identity.NewFailures(), buffers: stream.NewBuffers(),
		places: newPlaces(o.Tunnels, o.PerNamespace), flights: newPlaces(o.Requests, o.RequestsPerNamespace), tunnels: newTunnels(),
		handoff: newHandoff(),
	}
	p.metrics = newMetrics(o.Metrics, p.places)
	p.plain = p.newTransport()
	p.dispatcher = p.newDispatcher()
	p.secure, p.http1, p.http2 = p.newSecure(), p.newHTTP1(), p.newHTTP2()
	go func() { _ = p.http2.Serve(p.handoff) }() // until Shutdown
	ended := make(chan struct{})
	p.end = sync.OnceFunc(func() { close(ended) })
	go p.tunnels.recheck(ended)
	return p
}

// Shutdown lets requests within tunnels end, and tunnels until they are silent
// for some seconds; when the context ends, so do all that are left.
func (p *Proxy) Shutdown(ctx context.Context) error {
	ended := make(chan error, 2)
	go func() { ended <- p.http1.Shutdown(ctx) }()
	go func() { ended <- p.http2.Shutdown(ctx) }()
	err := errors.Join(p.tunnels.drain(ctx), <-ended, <-ended)
	p.end()
	p.plain.CloseIdleConnections()
	if err != nil {
		return errors.Join(err, p.http2.Close())
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &visit{Proxy: p, request: r, begun: p.Now()}
	if no := v.admit(); no != nil {
		no.writeText(w)
		v.tell(v.caller.Namespace, no)
		v.log(no.status, no.reason, no.cause)
		return
	}
	if r.Method == http.MethodConnect {
		p.dispatcher.ServeHTTP(keeping{w}, r.WithContext(context.WithValue(r.Context(), visitKey{}, v)))
		return
	}
	defer v.leave()
	if len(v.usable(v.caller.Caller)) > 0 {
		newExchange(v, w, r).serve()
		return
	}
	v.forwardPlain(w) //nolint:contextcheck // the visit has the request, and its context
}
