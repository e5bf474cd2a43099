// Package stream moves the bodies of requests and responses through a proxy:
// each through one buffer, whatever its size, without a deadline for the whole,
// but with a limit on how long a client may stand still.
package stream

import (
	"net/http"
	"sync"
	"time"
)

const (
	// BufferSize is what a body holds of memory on its way.
	BufferSize = record
	// littleSize is what it holds while it moves slowly: thousands may wait for clients that do not read.
	littleSize = record / 4
	// largeSize is what it holds while it moves fast: some records.
	largeSize = 16 * record
	// hugeSize is what it holds while it moves faster still: with fewer turns between reading and writing the same
	// bytes cost less. That is at most a 64th of what moves in a second.
	hugeSize = 4 * largeSize
	// littleUnsent is how much the kernel takes of a body that does not move fast before its client does.
	littleUnsent = 8 * record
	// joinedSize is for what TLS makes of as much, and of a header before it.
	joinedSize = largeSize + record/2
)

// Response is a response on its way to the client, with what the access log tells of it. Make it by NewResponse.
type Response struct {
	http.ResponseWriter

	// Control is that of the connection or HTTP/2 stream.
	Control *http.ResponseController
	// Status is 0 until the response has one.
	Status int
	// Bytes are those of the body, so far.
	Bytes int64
	// Body is that of the request, where the server would take what is left of it for the next request (HTTP/1); or nil.
	Body *Body

	patience time.Duration
	deadline Deadline
	front    front
}

// NewResponse returns the response to a request. It breaks off where the client takes no byte for longer than the patience.
func NewResponse(w http.ResponseWriter, r *http.Request, patience time.Duration) *Response {
	return &Response{ResponseWriter: w, Control: http.NewResponseController(w), patience: patience, front: frontOf(r)}
}

// WriteHeader implements http.ResponseWriter. Informational responses stop
// here: their headers come from the far end, and nobody has looked at them.
func (w *Response) WriteHeader(status int) {
	if status < http.StatusOK {
		return
	}
	if w.Status == 0 {
		w.Status = status
	}
	if w.Body != nil && !w.Body.Whole() {
		// What is left of the body may not be taken for the next request.
		w.Header().Set("Connection", "close")
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer. The client may take its time for the whole, but
// not stand still. The deadline is that of this response: the server has another one, or none, for the next.
func (w *Response) Write(p []byte) (int, error) {
	if w.Status == 0 {
		w.Status = http.StatusOK
	}
	w.extend(time.Now())
	n, err := w.front.below.join(w.ResponseWriter, p)
	w.Bytes += int64(n)
	return n, err
}

// ready waits for the client to take more: who waits so holds no buffer meanwhile.
func (w *Response) ready(fast bool) error {
	w.extend(time.Now())
	return w.front.kernel.ready(fast)
}

// extend gives the client its time anew.
func (w *Response) extend(now time.Time) {
	if at, ok := w.deadline.Move(now, w.patience); ok {
		_ = w.Control.SetWriteDeadline(at) // a writer that knows no deadlines needs none
	}
}

// Unwrap is for http.ResponseController.
func (w *Response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Buffers are what bodies are copied through. Make it by NewBuffers.
type Buffers struct {
	little, small, large, huge, joined sync.Pool // of *[]byte
	now                                func() time.Time
}

// NewBuffers returns buffers that are made when they are needed.
func NewBuffers() *Buffers {
	sized := func(size int) sync.Pool {
		return sync.Pool{New: func() any { return new(make([]byte, size)) }}
	}
	return &Buffers{
		little: sized(littleSize), small: sized(BufferSize), large: sized(largeSize), huge: sized(hugeSize), joined: sized(joinedSize), now: time.Now,
	}
}

// of returns the pool of the buffers for a pace.
func (b *Buffers) of(p pace) *sync.Pool {
	switch {
	case p.faster:
		return &b.huge
	case p.fast:
		return &b.large
	case p.slow:
		return &b.little
	default:
		return &b.small
	}
}

func get(pool *sync.Pool) *[]byte {
	buffer, _ := pool.Get().(*[]byte)
	return buffer
}

// Get implements httputil.BufferPool.
func (b *Buffers) Get() []byte { return *get(&b.small) }

// Put implements httputil.BufferPool.
func (b *Buffers) Put(buffer []byte) { b.small.Put(&buffer) }
