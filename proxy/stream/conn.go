package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// firstRead is the most that is read of what begins with a record, while bytes come slowly: small answers come in one.
const firstRead = 4 << 10

// Conn is a connection below TLS, made for bodies. Make it by Buffers.Below.
//
// While bytes come slowly it reads within one record at a time, since what
// crypto/tls has read of the next one doubles the buffer that a connection holds
// as long as it lives. crypto/tls writes each record by itself; those of one large
// piece of a body go out together.
type Conn struct {
	net.Conn

	buffers *Buffers
	pace    pace
	in      records
	asking  bool // nothing is read from the connection: only what was read before is asked for

	mu   sync.Mutex
	held *[]byte // nil: what is written goes out at once
	n    int     // of held
}

// Below returns a connection that TLS can be spoken over from its first byte on.
func (b *Buffers) Below(conn net.Conn) *Conn { return &Conn{Conn: conn, buffers: b} }

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Read implements io.Reader. As of other connections, there may be one at a time.
func (c *Conn) Read(p []byte) (int, error) {
	if c.asking {
		return 0, errNothing
	}
	if !c.pace.fast {
		most := firstRead
		if left, ok := c.in.within(); ok {
			most = left
		}
		p = p[:min(most, len(p))]
	}
	n, err := c.Conn.Read(p)
	c.in.passed(p[:n])
	c.pace.moved(n, c.buffers.now())
	return n, err
}

// Write implements io.Writer.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		return c.Conn.Write(p)
	}
	if c.n+len(p) > len(*c.held) {
		if err := c.flush(); err != nil {
			return 0, err
		}
		if len(p) > len(*c.held) {
			return c.Conn.Write(p)
		}
	}
	c.n += copy((*c.held)[c.n:], p)
	return len(p), nil
}

// join writes a piece of a body through what makes records of it. Those of a large piece go out together.
func (c *Conn) join(w io.Writer, p []byte) (int, error) {
	if c == nil || len(p) <= record {
		return w.Write(p)
	}
	c.begin()
	n, err := w.Write(p)
	if flushed := c.end(); err == nil {
		err = flushed
	}
	return n, err
}

// begin has writes held until the end.
func (c *Conn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = get(&c.buffers.joined)
}

// end writes what is held.
func (c *Conn) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.flush()
	c.buffers.joined.Put(c.held)
	c.held = nil
	return err
}

func (c *Conn) flush() error {
	_, err := c.Conn.Write((*c.held)[:c.n])
	c.n = 0
	return err
}

// Client returns the client's side of TLS over a connection, for a transport of HTTP/1. Bodies are written to it as Copy does it.
func (b *Buffers) Client(conn net.Conn, config *tls.Config) *Client {
	below := b.Below(conn)
	return &Client{Conn: tls.Client(below, config), below: below, kernel: kernelOf(conn)}
}

// Client is the client's side of TLS.
type Client struct {
	*tls.Conn

	below  *Conn
	kernel *kernel
}

// ReadFrom implements io.ReaderFrom.
func (c *Client) ReadFrom(r io.Reader) (int64, error) {
	return c.below.buffers.Copy(pieces{c}, r)
}

// pieces are those of a body, on their way through TLS.
type pieces struct{ *Client }

// Write implements io.Writer.
func (p pieces) Write(b []byte) (int, error) { return p.below.join(p.Conn, b) }

func (p pieces) ready(fast bool) error { return p.kernel.ready(fast) }

// nothing is a timeout, which crypto/tls does not take for the connection's end.
type nothing struct{}

var errNothing net.Error = nothing{}

// Error implements error.
func (nothing) Error() string { return "nothing has come" }

// Timeout is what net.Error has.
func (nothing) Timeout() bool { return true }

// Temporary is what net.Error has.
func (nothing) Temporary() bool { return true }

// holds reports whether something has come that was not read.
func (c *Client) holds() bool {
	if !c.below.in.between() {
		return true
	}
	c.below.asking = true
	defer func() { c.below.asking = false }()
	n, err := c.Read(make([]byte, 1))
	return n > 0 || err != errNothing //nolint:errorlint // as it is, or it was not asked for
}

// Quiet reports whether all that has come on a connection was read, and its far end has not closed it, so that it
// can be used anew. Of one that the kernel cannot be asked about, such as TLS to a parent proxy, nobody knows: it is
// not. Nobody may read from it meanwhile.
func Quiet(conn net.Conn) bool {
	if c, ok := conn.(*Client); ok {
		return !c.kernel.talks() && !c.holds()
	}
	return !kernelOf(conn).talks()
}

// kernel is a connection as the kernel knows it; nil is one that it cannot be asked about.
type kernel struct {
	raw     syscall.RawConn
	limited bool // in what it takes before the far end does
}

func kernelOf(conn net.Conn) *kernel {
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			return &kernel{raw: raw}
		}
	}
	return nil
}

// ready returns once there is room, or the connection is at its end, or its deadline for writes has passed. For what
// moves fast there always is.
func (k *kernel) ready(fast bool) error {
	if k == nil {
		return nil
	}
	k.limit(!fast)
	if fast {
		return nil
	}
	return k.raw.Write(func(fd uintptr) bool {
		// To ask is also what has the kernel tell when there is room again.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0) //nolint:gosec // the kernel gives out smaller ones
		return n > 0 || err != nil
	})
}

// limit has the kernel take littleUnsent, or as much as it likes: some MiB for each client that does not read, until
// it has no more for any connection at all.
func (k *kernel) limit(on bool) {
	if k.limited == on {
		return
	}
	k.limited = on
	most := 0
	if on {
		most = littleUnsent
	}
	_ = k.raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, most) // what is not TCP does without
	})
}

// talks reports whether there may be something to read, be it the end.
func (k *kernel) talks() bool { return k == nil || k.has(unix.POLLIN) }

// has reports whether one of the events has come, or the connection is at its end.
func (k *kernel) has(events int16) (yes bool) {
	err := k.raw.Control(func(fd uintptr) {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, 0) //nolint:gosec // as above
			if errors.Is(err, unix.EINTR) {
				continue // a signal came, as Go's own do, and nothing was found out
			}
			yes = n > 0 || err != nil
			return
		}
	})
	return yes || err != nil
}

// Gone reports whether the far end of a connection has closed it, whatever there is still to read. Of one that is not
// the kernel's nobody knows.
func Gone(conn net.Conn) bool {
	k := kernelOf(bottom(conn))
	return k != nil && k.has(unix.POLLRDHUP)
}

// bottom is the connection below all that is spoken over one.
func bottom(conn net.Conn) net.Conn {
	for {
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = over.NetConn()
	}
}

type frontKey struct{}

// front is the connection that a server has taken.
type front struct {
	below  *Conn // nil: in clear
	kernel *kernel
}

// ConnContext is that of a http.Server, or of a connection for http1.Server: responses know of their connection.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	var f front
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	f.below, _ = conn.(*Conn)
	f.kernel = kernelOf(bottom(conn))
	return context.WithValue(ctx, frontKey{}, f)
}

// frontOf returns the connection of a request, where its response is the only one on it.
func frontOf(r *http.Request) front {
	if r.ProtoMajor != 1 {
		return front{}
	}
	f, _ := r.Context().Value(frontKey{}).(front)
	return f
}

// listener is one whose connections TLS is spoken over.
type listener struct {
	net.Listener

	buffers *Buffers
}

// Listen returns a listener whose connections are those of Below.
func (b *Buffers) Listen(l net.Listener) net.Listener { return listener{l, b} }

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.buffers.Below(conn), nil
}
