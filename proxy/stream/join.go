package stream

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// Joined is a connection below TLS. crypto/tls writes each record by itself;
// those of one write of a large piece of a body are joined here. Make it by Buffers.Join.
type Joined struct {
	net.Conn

	buffers *Buffers
	mu      sync.Mutex
	held    *[]byte // nil: what is written goes out at once
	n       int     // of held
}

// Join returns a connection for a server of TLS whose ConnContext is that of this package.
func (b *Buffers) Join(conn net.Conn) *Joined { return &Joined{Conn: conn, buffers: b} }

// Write implements io.Writer.
func (j *Joined) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.held == nil {
		return j.Conn.Write(p)
	}
	if j.n+len(p) > len(*j.held) {
		if err := j.flush(); err != nil {
			return 0, err
		}
		if len(p) > len(*j.held) {
			return j.Conn.Write(p)
		}
	}
	j.n += copy((*j.held)[j.n:], p)
	return len(p), nil
}

// begin has writes held until the end.
func (j *Joined) begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held = get(&j.buffers.joined)
}

// end writes what is held.
func (j *Joined) end() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.flush()
	j.buffers.joined.Put(j.held)
	j.held = nil
	return err
}

func (j *Joined) flush() error {
	_, err := j.Conn.Write((*j.held)[:j.n])
	j.n = 0
	return err
}

type joinedKey struct{}

// ConnContext is that of a http.Server: responses over a connection of Buffers.Join know of it.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if j, ok := conn.(*Joined); ok {
		return context.WithValue(ctx, joinedKey{}, j)
	}
	return ctx
}

// joinedOf returns the connection of a request, where its response is the only one on it.
func joinedOf(r *http.Request) *Joined {
	if r.ProtoMajor != 1 {
		return nil
	}
	j, _ := r.Context().Value(joinedKey{}).(*Joined)
	return j
}

// listener is one whose connections are joined.
type listener struct {
	net.Listener

	buffers *Buffers
}

// Listen returns a listener whose connections are those of Join.
func (b *Buffers) Listen(l net.Listener) net.Listener { return listener{l, b} }

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.buffers.Join(conn), nil
}
