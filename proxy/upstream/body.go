package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// silent ends a body that does not move, as a timeout.
type silent struct{ where string }

// Error implements error.
func (s silent) Error() string { return "the registry " + s.where }

// Timeout is what net.Error has.
func (silent) Timeout() bool { return true }

// What ends a body of a response and of a request.
var (
	errSilence error = silent{"went silent within a body"}
	errStuck   error = silent{"stopped reading a body"}
)

// errWithdrawn ends a request whose body is to go with another one.
var errWithdrawn = errors.New("the request is sent again with another credential")

// guarded is a response's body whose reads may not take longer than a limit. There are
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

// body is a client's request body on its way to the registry, in one attempt.
//
// It is not read before the registry has said that it wants it, nor while a
// refusal may still withdraw it: where a registry refuses a request at once and
// keeps the connection, http.Transport would send the body after all. Registries
// that say nothing get it after a second, as the Transport has it.
//
// It moves, or the request ends: from when a piece was read until the next is
// asked for, the registry has that long to take it. How long the client takes
// for the next piece is not its concern.
type body struct {
	from    io.Reader
	silence time.Duration
	stuck   *time.Timer // runs while the registry is to take what was read

	allowed chan struct{} // closed once reads may go on
	waited  *time.Timer

	mu                       sync.Mutex
	open, touched, withdrawn bool
}

func newBody(from io.Reader, silence time.Duration, cancel context.CancelCauseFunc) *body {
	b := &body{from: from, silence: silence, allowed: make(chan struct{})}
	b.stuck = time.AfterFunc(silence, func() { cancel(errStuck) })
	b.stuck.Stop()
	b.mu.Lock() // the timer may run out at once
	defer b.mu.Unlock()
	b.waited = time.AfterFunc(continueTime, b.allow)
	return b
}

// of returns the request with this body.
func (b *body) of(r *http.Request) *http.Request {
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got100Continue: b.allow,
		WroteRequest:   func(httptrace.WroteRequestInfo) { b.stuck.Stop() },
	}))
	r.Body = b
	return r
}

// allow lets reads go on.
func (b *body) allow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		b.open = true
		b.waited.Stop()
		close(b.allowed)
	}
}

// withdraw ends all reads if there was none yet, and reports whether that is so.
func (b *body) withdraw() bool {
	b.mu.Lock()
	b.withdrawn = !b.touched
	b.mu.Unlock()
	b.allow()
	return b.withdrawn
}

// touch is before the first read.
func (b *body) touch() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.touched = !b.withdrawn
	return b.touched
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	<-b.allowed
	if !b.touch() {
		return 0, errWithdrawn
	}
	b.stuck.Stop()
	n, err := b.from.Read(p)
	b.stuck.Reset(b.silence)
	return n, err
}

// Close implements io.Closer. The client's body is the server's to close.
func (*body) Close() error { return nil }
