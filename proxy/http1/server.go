package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"berth.dev/berth/proxy/stream"
)

// glance is how often connections are looked at whose request has no whole answer yet: their clients may have left.
const glance = 500 * time.Millisecond

// Server serves HTTP/1.1 on connections that somebody else has accepted. Of the
// durations and of MaxHeaderBytes, 0 is no limit. Safe for concurrent use.
type Server struct {
	// Handler answers the requests. Its writer has of http.ResponseController the deadlines and Flush; it sends no
	// informational responses but status 100, when the body of a request is first read (RFC 9110 §10.1.1). An answer may
	// come before the body was read; then it is the last one of its connection. So it is after a panic, which
	// http.ErrAbortHandler makes a silent one. How long a body may take is the handler's to say.
	Handler http.Handler
	// Header is how long the header of a request may take, from its first byte.
	Header time.Duration
	// Idle is how long a connection may stand without a request.
	Idle time.Duration
	// Silence is how long the client may take nothing of an answer, where the handler sets no deadline.
	Silence time.Duration
	// MaxHeaderBytes bounds a request's header, with the line before it.
	MaxHeaderBytes int64
	// Log is told of panics. It must be set.
	Log *slog.Logger

	mu      sync.Mutex
	serving map[*served]context.CancelFunc // nil: no request; or what ends it
	watch   *time.Timer                    // nil: nobody is served
	ending  chan struct{}                  // not nil: no more requests; closed when nobody is served
}

// Serve serves the requests of a connection, closes it, and returns. Their context is of this one, and ends when the
// client has left or the handler returns; of the connection they know nothing (http.Request.RemoteAddr, TLS).
func (s *Server) Serve(ctx context.Context, accepted net.Conn) {
	c := &served{conn: &conn{Conn: accepted}, server: s}
	c.reader = bufio.NewReaderSize(c, bufferSize)
	defer c.shut()
	if !s.turn(c, nil) {
		return
	}
	defer s.leave(c)
	for c.next(ctx) {
	}
}

// Shutdown closes the connections that have no request, and the others after their answer. When the context ends it
// closes all, and returns its error.
func (s *Server) Shutdown(ctx context.Context) error {
	select {
	case <-s.end():
		return nil
	case <-ctx.Done():
		s.each(func(c *served, _ context.CancelFunc) { c.shut() })
		return ctx.Err()
	}
}

// end has no requests begin any more, and returns what is closed when the last one is over.
func (s *Server) end() (none <-chan struct{}) {
	s.mu.Lock()
	if s.ending == nil {
		if s.ending = make(chan struct{}); len(s.serving) == 0 {
			close(s.ending)
		}
	}
	s.mu.Unlock()
	s.each(func(c *served, stop context.CancelFunc) {
		if stop == nil {
			c.shut()
		}
	})
	return s.ending
}

// each does it to all connections that are served now. It may take its time: nobody waits for it.
func (s *Server) each(do func(c *served, stop context.CancelFunc)) {
	s.mu.Lock()
	all := maps.Clone(s.serving)
	s.mu.Unlock()
	for c, stop := range all {
		do(c, stop)
	}
}

// turn tells that the connection has a request from now on, or none, and reports whether it may.
func (s *Server) turn(c *served, stop context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil {
		return false
	}
	if s.serving == nil {
		s.serving = map[*served]context.CancelFunc{}
	}
	s.serving[c] = stop
	if s.watch == nil {
		s.watch = time.AfterFunc(glance, s.look)
	}
	return true
}

func (s *Server) leave(c *served) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.serving, c)
	if s.ending != nil && len(s.serving) == 0 {
		close(s.ending)
	}
}

// look ends the requests of clients that have left, and comes again. To read on during each request, as net/http's
// server does, would tell at once, and cost a small request more than it is worth.
func (s *Server) look() {
	s.each(func(c *served, stop context.CancelFunc) {
		if stop != nil && stream.Gone(c.Conn) {
			stop()
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watch = nil; len(s.serving) > 0 {
		s.watch = time.AfterFunc(glance, s.look)
	}
}

// ends reports whether the server does.
func (s *Server) ends() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending != nil
}

// served is a connection of a client.
type served struct {
	*conn

	server  *Server
	arrives bool // the header of a request has begun, and nobody has said how long it may take
}

// Read implements io.Reader. Most headers come whole at once, and need no deadline of their own.
func (c *served) Read(p []byte) (int, error) {
	if c.arrives {
		c.arrives = false
		c.await(c.server.Header)
	}
	return c.conn.Read(p)
}

// next serves a request, and reports whether there may be another one.
func (c *served) next(ctx context.Context) bool {
	r, err := c.read()
	if err != nil {
		c.reject(err)
		return false
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if !c.server.turn(c, stop) {
		return false
	}
	return c.answer(newResponse(c, r.WithContext(ctx))) && c.server.turn(c, nil)
}

// answer has the handler answer, and reports whether there may be another request: after a panic there may not.
func (c *served) answer(w *response) bool {
	defer func() {
		if failed := recover(); failed != nil && failed != http.ErrAbortHandler { //nolint:errorlint // it is that one, or anything at all
			c.server.Log.Error("a request failed", slog.Any("panic", failed), slog.String("stack", string(debug.Stack())))
		}
		w.release()
	}()
	c.server.Handler.ServeHTTP(w, w.request)
	return w.finish()
}

// read reads the header of a request.
func (c *served) read() (*http.Request, error) {
	c.begin(c.server.MaxHeaderBytes)
	c.await(c.server.Idle)
	if _, err := c.reader.Peek(1); err != nil {
		return nil, err
	}
	c.arrives = true
	r, err := http.ReadRequest(c.reader)
	c.arrives = false
	if err != nil {
		return nil, err
	}
	if r.Body != http.NoBody {
		c.await(0)
	}
	c.inBody = true
	return r, check(r)
}

// refused is why what came is not served as a request.
type refused struct {
	status int
	text   string
}

// Error implements error.
func (r *refused) Error() string { return r.text }

// check refuses what http.ReadRequest takes for a request and a server should not.
func check(r *http.Request) error {
	switch expects := r.Header["Expect"]; {
	case r.ProtoMajor != 1:
		return &refused{http.StatusHTTPVersionNotSupported, "this server speaks HTTP/1.1"}
	case r.Host == "" && r.ProtoAtLeast(1, 1), !httpguts.ValidHostHeader(r.Host):
		return &refused{http.StatusBadRequest, "the request must have one header `Host`, with a host and perhaps a port"}
	case len(expects) > 0 && (len(expects) > 1 || !strings.EqualFold(expects[0], "100-continue")):
		return &refused{http.StatusExpectationFailed, "the server meets no other expectation than '100-continue'"}
	}
	for name, values := range r.Header {
		invalid := func(value string) bool { return !httpguts.ValidHeaderFieldValue(value) }
		if !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, invalid) {
			return &refused{http.StatusBadRequest, "the request has a header field that is none"}
		}
	}
	return nil
}

// reject answers what is no request.
func (c *served) reject(err error) {
	if c.lost != nil {
		return
	}
	no, ok := errors.AsType[*refused](err)
	switch {
	case ok:
	case errors.Is(err, ErrHeaderTooLarge):
		no = &refused{http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the header of a request must be of at most %d bytes", c.server.MaxHeaderBytes)}
	default:
		no = &refused{http.StatusBadRequest, "this is no request of HTTP/1.1"}
	}
	answer := &http.Response{
		StatusCode: no.status, ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		ContentLength: int64(len(no.text)), Body: io.NopCloser(strings.NewReader(no.text)),
	}
	c.patientWrites(c.server.Silence)
	_ = answer.Write(c.Conn) // it is text; and a client that is gone needs no answer
	c.linger()
}

// linger has the client read an answer before the connection closes: what comes to one that is closed takes from the
// client what it has not read yet.
func (c *served) linger() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = c.SetReadDeadline(time.Now().Add(lingers))
	_, _ = io.Copy(io.Discard, c.Conn)
}
