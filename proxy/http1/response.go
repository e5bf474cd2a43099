package http1

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"berth.dev/berth/proxy/stream"
)

// response is the answer to a request, a http.ResponseWriter.
type response struct {
	conn    *served
	request *http.Request
	body    *incoming // nil: the request has none
	header  http.Header
	status  int // 0: none yet

	mu      sync.Mutex // status 100 may come from another goroutine
	begun   bool       // the header is written
	out     *bufio.Writer
	patient bool // the handler has set a deadline for writes
	hurried bool // and for reads

	bare   bool           // it has no body
	chunks io.WriteCloser // its body; nil: it is not chunked
	sized  bool           // its length is declared
	left   int64          // of that
	last   bool           // nothing can follow on the connection
}

func newResponse(c *served, r *http.Request) *response {
	w := &response{conn: c, request: r, header: http.Header{}}
	w.out, _ = writers.Get().(*bufio.Writer)
	w.out.Reset(c.Conn)
	if r.Body != http.NoBody {
		w.body = &incoming{from: r.Body, of: w, expected: len(r.Header["Expect"]) > 0 && r.ProtoAtLeast(1, 1)}
		r.Body = w.body
	}
	return w
}

// release gives back what the response holds.
func (w *response) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = true
	w.out.Reset(nil)
	writers.Put(w.out)
	w.out = nil
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
}

// Write implements io.Writer.
func (w *response) Write(p []byte) (int, error) {
	w.begin()
	switch {
	case w.bare:
		return len(p), nil
	case w.sized && int64(len(p)) > w.left:
		return 0, http.ErrContentLength
	case w.chunks != nil:
		return w.chunks.Write(p)
	}
	n, err := w.out.Write(p)
	w.left -= int64(n)
	return n, err
}

// FlushError is for http.ResponseController.
func (w *response) FlushError() error {
	w.begin()
	return w.out.Flush()
}

// SetReadDeadline is for http.ResponseController.
func (w *response) SetReadDeadline(at time.Time) error {
	w.mu.Lock()
	w.hurried = true
	w.mu.Unlock()
	return w.conn.SetReadDeadline(at)
}

// SetWriteDeadline is for http.ResponseController.
func (w *response) SetWriteDeadline(at time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.patient, w.conn.writes = true, stream.Deadline{}
	return w.conn.SetWriteDeadline(at)
}

// allow gives the client its time anew, unless the handler does. It is called under the lock.
func (w *response) allow() {
	if !w.patient {
		w.conn.patientWrites(w.conn.server.Silence)
	}
}

// EnableFullDuplex is for http.ResponseController: no answer waits for the body of its request.
func (*response) EnableFullDuplex() error { return nil }

// begin is before something is written. It writes the header, once.
func (w *response) begin() {
	w.mu.Lock()
	w.allow()
	begun := w.begun
	w.begun = true
	w.mu.Unlock()
	if begun {
		return
	}
	w.WriteHeader(http.StatusOK)
	w.frame()
	if delete(w.header, "Connection"); w.last {
		w.header.Set("Connection", "close")
	}
	if _, ok := w.header["Date"]; !ok {
		w.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	line := append(w.out.AvailableBuffer(), "HTTP/1.1 "...)
	line = strconv.AppendInt(line, int64(w.status), 10)
	line = append(append(append(line, ' '), http.StatusText(w.status)...), "\r\n"...)
	_, _ = w.out.Write(line) // here and below: a bufio.Writer keeps its error for the flush
	_ = w.header.Write(w.out)
	_, _ = w.out.WriteString("\r\n")
}

// frame decides where the answer ends, and whether its connection does (RFC 9112 §6, §9.3).
func (w *response) frame() {
	w.last = w.request.Close || !w.request.ProtoAtLeast(1, 1) || w.body != nil && !w.body.whole.Load() ||
		httpguts.HeaderValuesContainsToken(w.header["Connection"], "close") || w.conn.server.ends()
	delete(w.header, "Transfer-Encoding")
	none := w.status == http.StatusNoContent || w.status == http.StatusNotModified
	w.bare = none || w.request.Method == http.MethodHead
	length, err := strconv.ParseUint(w.header.Get("Content-Length"), 10, 63)
	if w.sized = err == nil && len(w.header["Content-Length"]) == 1; w.sized && !none {
		w.left = int64(length)
		return
	}
	delete(w.header, "Content-Length")
	switch {
	case w.bare:
	case w.request.ProtoAtLeast(1, 1):
		w.header.Set("Transfer-Encoding", "chunked")
		w.chunks = httputil.NewChunkedWriter(w.out)
	}
}

// finish ends the answer, and reports whether there may be another request.
func (w *response) finish() (again bool) {
	if !w.begun && w.header.Get("Content-Length") == "" && w.request.Method != http.MethodHead {
		w.header.Set("Content-Length", "0")
	}
	w.begin()
	if w.chunks != nil {
		_ = w.chunks.Close()
		_, _ = w.out.WriteString("\r\n")
	}
	if err := w.out.Flush(); err != nil || w.sized && !w.bare && w.left > 0 {
		return false
	}
	switch {
	case w.body != nil && !w.body.whole.Load():
		w.conn.linger()
	case w.hurried:
		w.conn.reads = stream.Deadline{}
		_ = w.conn.SetReadDeadline(time.Time{})
	}
	return !w.last
}

// proceed has the client send the body that it announced, unless it has its answer.
func (w *response) proceed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.begun {
		w.allow()
		_, _ = w.out.WriteString("HTTP/1.1 100 Continue\r\n\r\n")
		_ = w.out.Flush() // fails again with the answer
	}
}

// incoming is a request's body.
type incoming struct {
	from     io.Reader
	of       *response
	expected bool // the client waits for status 100
	whole    atomic.Bool
}

// Read implements io.Reader.
func (b *incoming) Read(p []byte) (int, error) {
	if b.expected {
		b.expected = false
		b.of.proceed()
	}
	n, err := b.from.Read(p)
	if errors.Is(err, io.EOF) {
		b.whole.Store(true)
	}
	return n, err
}

// Close implements io.Closer. What is left of a body is not read: its connection closes.
func (*incoming) Close() error { return nil }
