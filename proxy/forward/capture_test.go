package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// network resolves and dials by tables, and goes nowhere else. It notes what it was asked; what goes over its connections is on the wire.
type network struct {
	wire *wire

	mu       sync.Mutex
	names    map[string][]string
	next     map[string][]string // what a name leads to when it is asked about again
	to       map[string]string
	resolved []string
	dialled  []string
}

func (n *network) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.resolved = append(n.resolved, host)
	var found []netip.Addr
	for _, text := range n.names[host] {
		found = append(found, netip.MustParseAddr(text))
	}
	if next, ok := n.next[host]; ok {
		n.names[host] = next
	}
	if len(found) == 0 {
		return nil, &net.DNSError{IsNotFound: true, Name: host}
	}
	return found, nil
}

var errNowhere = errors.New("the test goes nowhere")

func (n *network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled = append(n.dialled, address)
	to, ok := n.to[address]
	n.mu.Unlock()
	if !ok {
		return nil, errNowhere
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, to)
	if err != nil {
		return nil, err
	}
	return n.wire.tap(conn, "bytes to "+address, "bytes from "+address), nil
}

func (n *network) asked() (resolved, dialled []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.resolved, n.dialled
}

// wire is what went over the proxy's connections, as it went: of TLS that is cipher text.
type wire struct {
	off bool // nothing is noted

	mu    sync.Mutex
	noted map[string]*bytes.Buffer
}

// newWire returns one that notes nothing in a benchmark, which would measure that.
func newWire(t testing.TB) *wire {
	t.Helper()
	_, off := t.(*testing.B)
	return &wire{off: off, noted: map[string]*bytes.Buffer{}}
}

// flows are all bytes that went one way, by which way that is.
func (w *wire) flows() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	flows := map[string]string{}
	for way, content := range w.noted {
		flows[way] = content.String()
	}
	return flows
}

// forget forgets what went one way.
func (w *wire) forget(way string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.noted, way)
}

func (w *wire) note(way string, p []byte) {
	if way == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noted[way] == nil {
		w.noted[way] = &bytes.Buffer{}
	}
	w.noted[way].Write(p)
}

// tap notes what is written to a connection and what is read from it, each where it has a name.
func (w *wire) tap(conn net.Conn, written, read string) net.Conn {
	if w.off {
		return conn
	}
	return &tapped{conn.(*net.TCPConn), w, written, read}
}

// listener taps what it accepts, toward clients. What they send holds their tokens, and is none of Berth's.
func (w *wire) listener(l net.Listener) net.Listener { return tapping{l, w} }

type tapping struct {
	net.Listener
	wire *wire
}

// Accept implements net.Listener.
func (l tapping) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wire.tap(conn, "bytes to clients", ""), nil
}

type tapped struct {
	*net.TCPConn
	wire          *wire
	written, read string
}

// Read implements net.Conn.
func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.wire.note(c.read, p[:n])
	return n, err
}

// Write implements net.Conn.
func (c *tapped) Write(p []byte) (int, error) {
	c.wire.note(c.written, p)
	return c.TCPConn.Write(p)
}

// ReadFrom implements io.ReaderFrom, by Write.
func (c *tapped) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{c}, r) }

// WriteTo implements io.WriterTo, by Read.
func (c *tapped) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{c}) }
