package stream

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// leastProgress is what a client must send within the patience: one that sends
// a byte a minute moves, and yet would hold its place for ever.
const leastProgress = 4 << 10

// linger is how long a client may go on sending what nobody wants any more.
const linger = time.Second

// Body is the body of a client's request on its way to the registry. It is
// read only when the registry wants it, since the first read answers `Expect:
// 100-continue`, and it bounds how long the client may stand still; the time
// that the registry takes does not count.
//
// The transport may read on after the registry has answered, and even after the
// handler has returned; from then on there is nothing to read, and the
// connection is the server's again. An answer that comes before the whole body
// was read says that the connection closes (see Response): with full duplex,
// net/http's server panics where it finds the end of a body itself after the
// handler has returned, and takes what a slow client sends later for the next
// request. Make it by NewBody.
type Body struct {
	io.ReadCloser
	control  *http.ResponseController
	patience time.Duration
	left     time.Duration // of the patience
	since    int           // bytes since the patience was whole
	bytes    atomic.Int64

	reading sync.Mutex // held by a read

	mu   sync.Mutex
	over bool
	err  error // why the body ended, io.EOF where it is whole
}

// NewBody returns the body of a request whose response the control is of.
func NewBody(body io.ReadCloser, control *http.ResponseController, patience time.Duration) *Body {
	_ = control.EnableFullDuplex() // else the answer would wait until the client has sent everything
	return &Body{ReadCloser: body, control: control, patience: patience, left: patience}
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	begun := time.Now()
	if err := b.allow(begun.Add(b.left)); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= time.Since(begun)
	b.since += n
	b.bytes.Add(int64(n))
	if b.since >= leastProgress {
		b.left, b.since = b.patience, 0
	}
	if err != nil {
		b.ended(err)
	}
	return n, err
}

// allow sets a deadline for the next read, while there may be one, and else says why there may not.
func (b *Body) allow(until time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err != nil:
		return b.err
	case b.over:
		return http.ErrBodyReadAfterClose
	}
	_ = b.control.SetReadDeadline(until) // a reader that knows no deadlines needs none
	return nil
}

// ended keeps why a body ended. From a whole one the deadline is taken off,
// for the server already waits on the same connection for what comes next.
func (b *Body) ended(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || b.err != nil {
		return
	}
	b.err = err
	if errors.Is(err, io.EOF) {
		_ = b.control.SetReadDeadline(time.Time{})
	}
}

// Bytes are those that were read so far.
func (b *Body) Bytes() int64 { return b.bytes.Load() }

// Finish is called when the request has its answer: nothing is read any more.
func (b *Body) Finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	if b.err == nil {
		_ = b.control.SetReadDeadline(time.Now().Add(linger))
	}
}

// Whole reports whether all of the body was read.
func (b *Body) Whole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Is(b.err, io.EOF)
}

// Broken returns why the client's request did not come whole, if it did not: that is no fault of the registry.
func (b *Body) Broken() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(b.err, io.EOF) {
		return nil
	}
	return b.err
}

// Failure is Broken for a request that failed, nil for one without a body. Where its context is over, a read that goes on
// ends too, and is waited for: net/http's server ends the context of a request whose body breaks, before the read says so.
func (b *Body) Failure(over bool) error {
	if b == nil {
		return nil
	}
	if over {
		b.reading.Lock()
		defer b.reading.Unlock()
	}
	return b.Broken()
}

// Stalled reports whether the client stood still.
func Stalled(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
