package upstream

import (
	"errors"
	"io"
	"sync"
	"time"
)

// errWithdrawn ends a request that was answered before its body was begun, or whose body is to go with another one.
var errWithdrawn = errors.New("the request needs no body any more")

// body is a client's request body on its way to the registry, in one attempt.
//
// It is not read before the registry has said that it wants it, nor begun once
// it has answered: where a registry refuses a request at once and keeps the
// connection, it would be sent after all, and the client told to send it.
// Registries that say nothing get it after a second.
type body struct {
	from io.Reader

	allowed chan struct{} // closed once reads may go on
	waited  *time.Timer

	mu                       sync.Mutex
	open, touched, withdrawn bool
}

func newBody(from io.Reader) *body {
	b := &body{from: from, allowed: make(chan struct{})}
	b.mu.Lock() // the timer may run out at once
	defer b.mu.Unlock()
	b.waited = time.AfterFunc(continueTime, b.Continue)
	return b
}

// Continue implements http1.Continuer: reads go on.
func (b *body) Continue() {
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
	b.Continue()
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
	return b.from.Read(p)
}

// Close implements io.Closer. The client's body is the server's to close.
func (*body) Close() error { return nil }
