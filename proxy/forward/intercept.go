package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"

	"berth.dev/berth/proxy/stream"
)

// interception is the client's side of an intercepted tunnel.
type interception struct {
	*stream.Conn
	visit *visit
	once  sync.Once
}

// Close implements net.Conn, and gives the place back.
func (i *interception) Close() error {
	i.once.Do(i.visit.leave)
	return i.Conn.Close()
}

// handoff is the listener through which intercepted tunnels reach their server.
type handoff struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (*handoff) Addr() net.Addr { return &net.TCPAddr{} }

func (h *handoff) give(conn *interception) {
	secure := tls.Server(conn, conn.visit.inner.TLSConfig)
	select {
	case h.conns <- secure:
	case <-h.closed:
		_ = conn.Close()
	}
}

// newInner returns the one server of all intercepted tunnels. It answers
// whatever is not TLS with an error, and does not serve it.
func (p *Proxy) newInner() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           http.HandlerFunc(serveInner),
		ReadHeaderTimeout: headerTimeout, IdleTimeout: p.Idle, MaxHeaderBytes: p.HeaderBytes,
		Protocols: &protocols,
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
			GetConfigForClient: checkServerName, GetCertificate: p.leaf,
		},
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if i, ok := intercepted(conn); ok {
				return context.WithValue(stream.ConnContext(ctx, i.Conn), visitKey{}, i.visit)
			}
			return ctx
		},
		ErrorLog: slog.NewLogLogger(p.Log.Handler(), slog.LevelDebug),
	}
}

func intercepted(conn net.Conn) (*interception, bool) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	i, ok := conn.(*interception)
	return i, ok
}

var (
	errServerName = errors.New("the client asked TLS for another server than it asked the proxy for")
	errNoVisit    = errors.New("no tunnel leads here")
)

// checkServerName refuses a client that names another server in its TLS
// handshake than in its CONNECT, also where it resumes a session.
func checkServerName(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	i, ok := intercepted(hello.Conn)
	if !ok {
		return nil, errNoVisit
	}
	if name := strings.ToLower(strings.TrimSuffix(hello.ServerName, ".")); name != "" && name != i.visit.target.Host {
		i.visit.log(http.StatusMisdirectedRequest, ReasonHostMismatch, errServerName)
		return nil, errServerName
	}
	return nil, nil //nolint:nilnil // the configuration stays as it is
}

// leaf returns the certificate of the target that the tunnel leads to, whatever the client calls it.
func (p *Proxy) leaf(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	i, ok := intercepted(hello.Conn)
	if !ok {
		return nil, errNoVisit
	}
	return p.Authorities.certificate(i.visit.usable(i.visit.caller.Caller), i.visit.target.Host)
}

// serveInner serves a request within an intercepted tunnel.
func serveInner(w http.ResponseWriter, r *http.Request) {
	v, ok := r.Context().Value(visitKey{}).(*visit)
	if !ok {
		http.Error(w, errNoVisit.Error(), http.StatusMisdirectedRequest)
		return
	}
	newExchange(v, w, r).serve()
}
