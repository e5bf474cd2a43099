package forward

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/elazarl/goproxy"
)

// established answers a CONNECT whose tunnel stands.
const established = "HTTP/1.1 200 Connection established\r\n\r\n"

// replyTime is how long a client may take the answer to its CONNECT.
const replyTime = 10 * time.Second

// newDispatcher returns the part of goproxy that Berth uses: it takes the
// connection of a CONNECT out of the server, and sends plain requests on.
func (p *Proxy) newDispatcher() *goproxy.ProxyHttpServer {
	d := goproxy.NewProxyHttpServer()
	d.Tr, d.ConnectDial, d.CertStore = p.plain, nil, nil
	d.KeepAcceptEncoding = true
	d.Logger = quiet{p.Log}
	d.OnRequest().HandleConnectFunc(func(host string, ctx *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		v, ok := ctx.Req.Context().Value(visitKey{}).(*visit)
		if !ok {
			return goproxy.RejectConnect, host
		}
		return &goproxy.ConnectAction{Action: goproxy.ConnectHijack, Hijack: func(_ *http.Request, client net.Conn, _ *goproxy.ProxyCtx) { v.connected(client) }}, host
	})
	d.OnRequest().DoFunc(sendPlain)
	return d
}

// connected has the connection of a client that asked for a tunnel.
func (v *visit) connected(client net.Conn) {
	usable := v.usable(v.caller.Caller)
	if len(usable) == 0 {
		v.tunnel(client)
		return
	}
	if !v.Authorities.cover(usable, v.target.Host) {
		v.turnAway(client, &refusal{
			status: http.StatusServiceUnavailable, reason: ReasonAuthorityPending, after: 1, last: true,
			message: "the certificate authority of the Connector for '" + v.target.Host + "' is not there yet; Berth makes it by itself",
		})
		return
	}
	if !reply(client, established) {
		v.turnAway(client, nil)
		return
	}
	go v.serve(&interception{Conn: v.buffers.Below(client), visit: v}) // not in this goroutine, whose stack has grown
}

// turnAway ends a visit whose connection was already taken out of the server; nil is for a client that is gone.
func (v *visit) turnAway(client net.Conn, no *refusal) {
	defer v.leave()
	defer func() { _ = client.Close() }()
	if no == nil {
		v.log(statusClientGone, ReasonClientGone, nil)
		return
	}
	v.tell(v.caller.Namespace, no)
	v.log(no.status, no.reason, no.cause)
	var answer bytes.Buffer
	_ = no.response().Write(&answer) //nolint:bodyclose // it is text; and a bytes.Buffer does not fail
	reply(client, answer.String())
}

func reply(client net.Conn, text string) bool {
	_ = client.SetWriteDeadline(time.Now().Add(replyTime))
	_, err := io.WriteString(client, text)
	_ = client.SetWriteDeadline(time.Time{})
	return err == nil
}

// keeping is a response whose connection, once hijacked, begins with what the
// server had already read of it: goproxy drops that, and with it the first
// bytes of a client that does not wait for its tunnel.
type keeping struct {
	http.ResponseWriter
}

// Hijack implements http.Hijacker.
func (k keeping) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(k.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if n := buffered.Reader.Buffered(); n > 0 {
		early := make([]byte, n)
		_, _ = io.ReadFull(buffered, early) // they are there
		conn = &replaying{Conn: conn, early: early}
	}
	return conn, buffered, nil
}

// replaying is a connection with bytes that are read before its own.
type replaying struct {
	net.Conn
	early []byte
}

// NetConn returns the connection itself.
func (c *replaying) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn.
func (c *replaying) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// quiet is goproxy's log. What it says holds addresses that the client wrote, and nothing that the access log lacks.
type quiet struct{ log *slog.Logger }

// Printf implements goproxy.Logger.
func (q quiet) Printf(format string, _ ...any) {
	q.log.Debug("goproxy", slog.String("says", strings.TrimSpace(format)))
}
