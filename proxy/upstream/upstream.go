// Package upstream is the one way from Berth to a registry.
//
// A request goes to the Connector's address and nowhere else, whatever host the
// request itself names. What signed the client in, what it stored as cookies and
// what tells of the way it came is taken off; what authorises the Connector is
// put on (package credential). What comes back loses the registry's challenges
// and cookies. Redirects are not followed: the client gets them, without our
// credential.
//
// A registry that answers 401 or 403 refuses the Connector's credential and not
// the client, so that answer is an error (*Error, CredentialRefused or
// RegistryDenied) and never passed on. After a 401 there is one more try with
// what else may authorise the request: a new token, or a credential that changed
// meanwhile. A body is sent once the registry has said that it wants it (Expect:
// 100-continue), so that there is this other try for a push too, as long as none
// of its body is gone. A GET or HEAD whose connection failed is sent once more.
// Nothing else is.
//
// Each Connector has connections of its own, verified by its own authorities;
// when those change, the connections are made anew. HTTP/1.1 is spoken on
// purpose: it is faster here than HTTP/2. There is no deadline for a whole
// request, since a layer takes as long as it takes, but for each step: TLS
// handshake, response header, and silence within a body, either way.
package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/access"
	"berth.dev/berth/bearer"
	"berth.dev/berth/proxy/credential"
)

// discardLimit is how much of an unwanted body is read, so that its connection can be used again.
const discardLimit = 64 << 10

// Dialer makes connections. *egress.Dialer is one.
type Dialer interface {
	// DialContext is that of net.Dialer.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Timeouts bound the steps of a request. Each zero value is a sensible one.
type Timeouts struct {
	// Handshake is for TLS: 10 s.
	Handshake time.Duration
	// Header is from the request to the header of its response: 60 s.
	Header time.Duration
	// Silence is how long a response's body may bring nothing, and how long the registry may take nothing of a
	// request's: 60 s.
	Silence time.Duration
}

func (t Timeouts) orDefaults() Timeouts {
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{{&t.Handshake, 10 * time.Second}, {&t.Header, time.Minute}, {&t.Silence, time.Minute}} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	return t
}

// Registries are the registries of all Connectors. Make it by New. Safe for
// concurrent use.
type Registries struct {
	credentials *credential.Source
	timeouts    Timeouts
	transports  *transports
}

// New returns the registries behind a dialer.
func New(credentials *credential.Source, dialer Dialer, timeouts Timeouts) *Registries {
	timeouts = timeouts.orDefaults()
	return &Registries{
		credentials: credentials, timeouts: timeouts,
		transports: newTransports(dialer, timeouts),
	}
}

// Forget drops what is held of a Connector that was deleted: its tokens, and
// its idle connections. Requests on their way go on.
func (u *Registries) Forget(uid types.UID) {
	u.credentials.Forget(uid)
	u.transports.byUID.Remove(uid)
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
	x := &exchange{Registries: u, connector: c, request: r, scopes: scopes}
	response, err := x.send()
	if err != nil {
		return nil, err
	}
	keepFromClient(response.Header, x.authorised)
	return downward(response), nil
}

// downward is a registry's answer for the client: a copy, since trailers, which nobody has looked at, come into the original.
func downward(response *http.Response) *http.Response {
	down := *response
	down.Trailer = nil
	return &down
}

// exchange is one request and its answer.
type exchange struct {
	*Registries
	connector *access.Connector
	request   *http.Request
	scopes    []bearer.Scope

	via        retrying
	authorised credential.Authorization
	body       *body // of the last attempt, nil where there is none
}

// send sends the request, and after a 401 with what else may authorise it.
func (x *exchange) send() (response *http.Response, err error) {
	ctx := x.request.Context()
	if x.via, err = x.transport(); err != nil {
		return nil, err
	}
	if x.authorised, err = x.credentials.Authorize(ctx, x.connector, x.via, x.scopes); err != nil {
		return nil, x.failed(err)
	}
	if response, err = x.attempt(); err != nil {
		return nil, x.failed(err)
	}
	if response.StatusCode == http.StatusUnauthorized {
		if response, err = x.again(response); err != nil {
			return nil, err
		}
	}
	if response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden {
		discard(response)
		return nil, refused(x.connector, response.StatusCode, x.authorised.Exchanged())
	}
	return response, nil
}

// again sends the request once more after a 401, where that is safe and there
// is something else that may authorise it. Else it returns the 401.
func (x *exchange) again(response *http.Response) (*http.Response, error) {
	if x.body != nil && !x.body.withdraw() {
		x.authorised.Drop(response.Header)
		return response, nil
	}
	next, ok, err := x.credentials.Again(x.request.Context(), x.connector, x.via, x.authorised, response.Header, x.scopes)
	if err != nil {
		discard(response)
		return nil, x.failed(err)
	}
	if !ok {
		return response, nil
	}
	discard(response)
	x.authorised = next
	if response, err = x.attempt(); err != nil {
		return nil, x.failed(err)
	}
	return response, nil
}

func (x *exchange) transport() (retrying, error) {
	authorities, err := x.credentials.Authorities(x.request.Context(), x.connector)
	if err != nil {
		return retrying{}, err
	}
	transport, err := x.transports.of(x.connector, authorities)
	return retrying{transport}, err
}

// attempt sends the request once.
func (x *exchange) attempt() (*http.Response, error) {
	out := outgoing(x.connector, x.request, x.authorised)
	if out.Body == nil {
		return x.via.RoundTrip(out)
	}
	x.body = newBody(x.request.Body)
	out.Body = x.body
	response, err := x.via.RoundTrip(out)
	x.body.withdraw() // what has its answer before the registry wanted its body needs none
	return response, err
}

// outgoing is the client's request as the registry gets it.
func outgoing(c *access.Connector, r *http.Request, authorised credential.Authorization) *http.Request {
	out := r.WithContext(r.Context())
	to := *r.URL
	to.Scheme, to.Host, to.User, to.Fragment = c.Address.Scheme, c.Address.Host, nil, ""
	out.URL, out.Host, out.RequestURI = &to, c.Address.Host, ""
	out.Header = outbound(r.Header)
	out.Trailer, out.TransferEncoding, out.Close, out.GetBody = nil, nil, false, nil
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		out.Body, out.ContentLength = nil, 0
	case r.ContentLength == 0: // unknown, and not to be found out by a read
		out.ContentLength = -1
	}
	if out.Body != nil {
		out.Header["Expect"] = []string{"100-continue"}
	}
	authorised.Authorize(out)
	return out
}

func discard(response *http.Response) {
	_, _ = io.CopyN(io.Discard, response.Body, discardLimit) // only for the sake of the connection
	_ = response.Body.Close()
}
