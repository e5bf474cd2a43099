package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"berth.dev/berth/proxy/http1"
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

// handoff is the listener through which intercepted tunnels reach the server of HTTP/2.
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

func (h *handoff) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.closed:
		_ = conn.Close()
	}
}

// serve serves the requests within an intercepted tunnel, HTTP/1.1 or HTTP/2, as TLS has it.
func (v *visit) serve(conn *interception) {
	secure := tls.Server(conn, v.secure)
	_ = secure.SetDeadline(time.Now().Add(headerTimeout))
	if err := secure.Handshake(); err != nil { //nolint:noctx // it ends by the deadline
		answerPlain(err)
		_ = secure.Close()
		v.Log.Debug("no TLS within a tunnel", slog.Any("error", err))
		return
	}
	_ = secure.SetDeadline(time.Time{})
	if secure.ConnectionState().NegotiatedProtocol == protocolHTTP2 {
		v.handoff.give(secure)
		return
	}
	ctx := stream.ConnContext(context.WithoutCancel(v.request.Context()), conn.Conn) // that of the CONNECT has ended
	v.http1.Serve(context.WithValue(ctx, visitKey{}, v), secure)
}

// answerPlain tells a client that began with HTTP that it must speak TLS.
func answerPlain(err error) {
	plain, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok || plain.Conn == nil {
		return
	}
	switch string(plain.RecordHeader[:4]) {
	case "GET ", "HEAD", "POST", "PUT ", "PATC", "DELE", "OPTI":
		_, _ = io.WriteString(plain.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nthis tunnel leads to a server that speaks TLS, and HTTP within it\n")
	}
}

// protocolHTTP2 is that of RFC 9113 §3.2.
const protocolHTTP2 = "h2"

// newSecure returns the server's side of TLS within intercepted tunnels.
func (p *Proxy) newSecure() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{protocolHTTP2, "http/1.1"},
		GetConfigForClient: checkServerName, GetCertificate: p.leaf,
	}
}

// newHTTP1 returns the server of the intercepted tunnels that speak HTTP/1.1 within.
func (p *Proxy) newHTTP1() *http1.Server {
	return &http1.Server{
		Handler: http.HandlerFunc(serveInner),
		Header:  headerTimeout, Idle: p.Idle, Silence: p.Patience, MaxHeaderBytes: int64(p.HeaderBytes),
		Log: p.Log,
	}
}

// newHTTP2 returns that of those that speak HTTP/2.
func (p *Proxy) newHTTP2() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           http.HandlerFunc(serveInner),
		ReadHeaderTimeout: headerTimeout, IdleTimeout: p.Idle, MaxHeaderBytes: p.HeaderBytes,
		Protocols: &protocols,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if i, ok := intercepted(conn); ok {
				return context.WithValue(ctx, visitKey{}, i.visit)
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
