// Package http1 is HTTP/1.1 (RFC 9112) for a proxy, its client and its server: a
// request is read, sent on and answered on one goroutine.
//
// Those of net/http have more. Its Transport has two for each connection; a request
// is handed to one, and its answer comes back from the other. Its Server has one
// read on during each request. To a program that does little but forward requests
// that is a good part of what a small one costs, and of what a slow one holds of
// memory. Messages are still parsed by net/http (ReadRequest, ReadResponse), and
// requests written (Request.Write), so that what is a message, and where it ends, is
// decided there. Of this package are the connections: which may serve the next
// request, how long they may stand still, and when they close.
//
// A connection of the Transport serves the next request if both ends have said all
// of the last one and nothing more: bytes that nobody asked for, whenever they come,
// close it, since they would be taken for the next answer. A request that has a body is
// written by a goroutine of its own, since its answer may come before its end.
//
// A connection of the Server serves the next one if the last was read to its end
// before its answer began. Where net/http's server is stricter than its ReadRequest,
// so is this one: it serves no request that the other would not, but for one whose
// own address names the host, and whose header Host, which then means nothing, is none.
//
// There is no HTTP/2, proxy, cookie, redirect, compression, trailer or upgrade, and no
// repetition of requests.
package http1

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// ErrHeaderTooLarge is of an answer whose header is larger than Transport.MaxHeaderBytes.
var ErrHeaderTooLarge = errors.New("the header is too large")

// Continuer is a request's body that wants to know that the server has asked
// for it: status 100 (RFC 9110 §10.1.1). It is read as soon as the header is
// out, so a body that must not be sent uncalled for waits in its Read.
type Continuer interface {
	// Continue is called for each status 100.
	Continue()
}

// Transport is a http.RoundTripper. All fields but the first two may be 0, which is no limit.
// Safe for concurrent use.
type Transport struct {
	// Dial makes a connection to an address, 'host:port'.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// DialTLS makes one for requests to https URLs, the handshake included.
	DialTLS func(ctx context.Context, network, address string) (net.Conn, error)
	// Header is how long an answer's header may take, from the end of the request.
	Header time.Duration
	// Silence is how long a read of an answer's body may bring nothing, and how long the server may take nothing of
	// a request. The time that others take, between reads and for the pieces of a request's body, does not count.
	Silence time.Duration
	// Idle is how long a connection is kept for a next request.
	Idle time.Duration
	// MaxIdle is how many are, for one origin.
	MaxIdle int
	// MaxHeaderBytes bounds an answer's header, with those of informational answers before it.
	MaxHeaderBytes int64

	pool pool
}

// RoundTrip implements http.RoundTripper. The answer's body must be closed; once it has been read to its end, the
// connection is free. An error is the cause of the context's end, where that is the reason.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	c, err := t.take(ctx, origin{r.URL.Scheme, r.URL.Host})
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, ended(ctx, err)
	}
	x := &exchange{Transport: t, conn: c, ctx: ctx, halves: 1}
	x.stop = context.AfterFunc(ctx, c.shut)
	if err = x.send(r); err == nil {
		var response *http.Response
		if response, err = x.receive(r); err == nil {
			return response, nil
		}
	}
	c.shut()
	x.done(false)
	if c.used && ctx.Err() == nil { // others are as old, and may have gone the same way
		t.pool.drop(c.at)
	}
	return nil, ended(ctx, err)
}

// Close closes the connections that serve no request, and each other one when its request is over.
func (t *Transport) Close() { t.pool.close() }

// ended is why a context ended, or else the error.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
