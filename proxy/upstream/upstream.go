// Package upstream is the one way from Berth to a registry.
//
// A request goes to the Connector's address and nowhere else, whatever host the
// request itself names. What signed the client in, what it stored as cookies and
// what tells of the way it came is taken off; the Connector's credential is put
// on. What comes back loses the registry's challenges and cookies. Redirects are
// not followed: the client gets them, without our credential.
//
// A registry that answers 401 or 403 refuses the Connector's credential and not
// the client, so that answer is an error (*Error, CredentialRefused) and never
// passed on; after a 401, a credential that changed meanwhile gets one try.
// A GET or HEAD whose connection failed is sent once more. Nothing else is.
//
// Each Connector has connections of its own, verified by its own authorities;
// when those change, the connections are made anew. HTTP/1.1 is spoken on
// purpose: it is faster here than HTTP/2. There is no deadline for a whole
// request, since a layer takes as long as it takes, but for each step: TLS
// handshake, response header, and silence within a body.
package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"berth.dev/berth/access"
	"berth.dev/berth/bearer"
	"berth.dev/berth/proxy/credential"
)

// discardLimit is how much of an unwanted body is read, so that its connection can be used again.
const discardLimit = 64 << 10

// Credentials finds what authorises towards a registry. *credential.Source is one.
type Credentials interface {
	// Credential returns what signs in to the Connector's registry now.
	Credential(ctx context.Context, c *access.Connector) (credential.Credential, error)
	// Authorities returns what its certificate is verified by, beside the public authorities.
	Authorities(ctx context.Context, c *access.Connector) (credential.Authorities, error)
}

// Dialer makes connections. *egress.Dialer is one.
type Dialer interface {
	// DialContext is that of net.Dialer.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Timeouts bound the steps of a request. Each zero value is a sensible one.
type Timeouts struct {
	// Secret is how long to wait for a Secret that was not seen yet: 5 s.
	Secret time.Duration
	// Handshake is for TLS: 10 s.
	Handshake time.Duration
	// Header is from the request to the header of its response: 60 s.
	Header time.Duration
	// Silence is how long a response's body may bring nothing: 60 s.
	Silence time.Duration
}

func (t Timeouts) orDefaults() Timeouts {
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{{&t.Secret, 5 * time.Second}, {&t.Handshake, 10 * time.Second}, {&t.Header, time.Minute}, {&t.Silence, time.Minute}} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	return t
}

// Registries are the registries of all Connectors. Make it by New. Safe for
// concurrent use.
type Registries struct {
	credentials Credentials
	timeouts    Timeouts
	transports  *transports
}

// New returns the registries behind a dialer.
func New(credentials Credentials, dialer Dialer, timeouts Timeouts) *Registries {
	timeouts = timeouts.orDefaults()
	return &Registries{
		credentials: credentials, timeouts: timeouts,
		transports: newTransports(dialer, timeouts),
	}
}

// RoundTrip sends a request to the Connector's registry. Of the request's URL
// only path and query count, and the path includes that of the Connector's
// address. The request is not changed; its body is not closed.
//
// The scopes are what the request needs of a registry that has a token service;
// without any, the credential itself goes with the request.
//
// The errors are *Error, *secret.Problem, and that of a request whose context ended.
func (u *Registries) RoundTrip(c *access.Connector, r *http.Request, scopes ...bearer.Scope) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	r = r.WithContext(ctx)
	_ = scopes
	response, err := u.send(c, r)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	keepFromClient(response.Header)
	// A copy, since the transport puts trailers, which nobody has looked at, into the original.
	down := *response
	down.Trailer = nil
	down.Body = guard(response.Body, u.timeouts.Silence, cancel)
	return &down, nil
}

// send sends the request, with the credential as it is now, and after a 401 with the one that took its place.
func (u *Registries) send(c *access.Connector, r *http.Request) (*http.Response, error) {
	transport, err := u.transport(c, r)
	if err != nil {
		return nil, err
	}
	authorised, err := u.credential(c, r)
	if err != nil {
		return nil, err
	}
	response, err := attempt(transport, c, r, authorised)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusUnauthorized && repeatable(r) {
		changed, err := u.credential(c, r)
		if err == nil && changed.Version != authorised.Version {
			discard(response)
			if response, err = attempt(transport, c, r, changed); err != nil {
				return nil, err
			}
		}
	}
	if response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden {
		discard(response)
		return nil, refused(c, response.StatusCode)
	}
	return response, nil
}

func (u *Registries) credential(c *access.Connector, r *http.Request) (credential.Credential, error) {
	ctx, cancel := context.WithTimeout(r.Context(), u.timeouts.Secret)
	defer cancel()
	return u.credentials.Credential(ctx, c)
}

func (u *Registries) transport(c *access.Connector, r *http.Request) (*http.Transport, error) {
	ctx, cancel := context.WithTimeout(r.Context(), u.timeouts.Secret)
	defer cancel()
	authorities, err := u.credentials.Authorities(ctx, c)
	if err != nil {
		return nil, err
	}
	return u.transports.of(c, authorities)
}

// attempt sends the request once, and once more after a failed connection.
func attempt(transport *http.Transport, c *access.Connector, r *http.Request, authorised credential.Credential) (*http.Response, error) {
	response, err := transport.RoundTrip(outgoing(c, r, authorised))
	if err != nil && again(r, err) {
		response, err = transport.RoundTrip(outgoing(c, r, authorised))
	}
	if err == nil {
		return response, nil
	}
	if ended := context.Cause(r.Context()); ended != nil {
		return nil, ended
	}
	return nil, unreachable(c, err)
}

// outgoing is the client's request as the registry gets it.
func outgoing(c *access.Connector, r *http.Request, authorised credential.Credential) *http.Request {
	out := r.WithContext(r.Context())
	to := *r.URL
	to.Scheme, to.Host, to.User, to.Fragment = c.Address.Scheme, c.Address.Host, nil, ""
	out.URL, out.Host, out.RequestURI = &to, c.Address.Host, ""
	out.Header = outbound(r.Header)
	out.Trailer, out.TransferEncoding, out.Close = nil, nil, false
	authorised.Basic.Authorize(out)
	return out
}

func discard(response *http.Response) {
	_, _ = io.CopyN(io.Discard, response.Body, discardLimit) // only for the sake of the connection
	_ = response.Body.Close()
}

// errSilence ends a body that brought nothing for too long.
var errSilence = errors.New("the registry went silent within a body")

// guarded is a body whose reads may not take longer than a limit. There are
// thousands of reads a second, so none of them sets a timer: one timer looks, a
// few times within the limit, whether a read has been going on for too long.
type guarded struct {
	io.ReadCloser
	silence time.Duration
	cancel  context.CancelCauseFunc
	begun   time.Time
	// since is when the read that goes on began, in nanoseconds since begun; 0: there is none.
	since  atomic.Int64
	closed atomic.Bool
	timer  atomic.Pointer[time.Timer]
}

// looks is how often, within the limit, it is looked whether it has passed.
const looks = 8

func guard(body io.ReadCloser, silence time.Duration, cancel context.CancelCauseFunc) *guarded {
	g := &guarded{ReadCloser: body, silence: silence, cancel: cancel, begun: time.Now()}
	g.look()
	return g
}

// look ends the request where a read takes too long, and else looks again later.
func (g *guarded) look() {
	since := g.since.Load()
	if since != 0 && time.Since(g.begun)-time.Duration(since) > g.silence {
		g.cancel(errSilence)
		return
	}
	if !g.closed.Load() {
		g.timer.Store(time.AfterFunc(g.silence/looks, g.look))
	}
}

// Read implements io.Reader. The time that the client takes between two reads does not count.
func (g *guarded) Read(p []byte) (int, error) {
	g.since.Store(max(int64(time.Since(g.begun)), 1))
	defer g.since.Store(0)
	return g.ReadCloser.Read(p)
}

// Close implements io.Closer, and ends the request.
func (g *guarded) Close() error {
	g.closed.Store(true)
	g.timer.Load().Stop()
	defer g.cancel(nil)
	return g.ReadCloser.Close()
}
