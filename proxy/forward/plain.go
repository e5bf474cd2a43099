package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/elazarl/goproxy"

	"berth.dev/berth/egress"
	"berth.dev/berth/proxy/stream"
)

const (
	// answerTime is how long another host may take for the header of its answer.
	answerTime = time.Minute
	// mostAnswer is how much of a header Berth reads.
	mostAnswer = 256 << 10
)

// newTransport returns the way of plain requests to other hosts. Each has a
// connection of its own: one that a namespace's policy let through is not there for the next.
func (p *Proxy) newTransport() *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true, DisableCompression: true,
		ResponseHeaderTimeout: answerTime, MaxResponseHeaderBytes: mostAnswer, ExpectContinueTimeout: time.Second,
		Proxy: func(r *http.Request) (*url.URL, error) {
			if v, ok := r.Context().Value(visitKey{}).(*visit); ok && v.parent != nil {
				return v.parent.URL(), nil
			}
			return nil, nil // there is none
		},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			v, ok := ctx.Value(visitKey{}).(*visit)
			if !ok {
				return nil, errNoVisit
			}
			open := func() (net.Conn, error) { return p.Egress.Open(ctx, p.Policy(v.caller.Namespace), v.target) }
			if v.parent != nil {
				open = func() (net.Conn, error) { return p.Egress.DialContext(ctx, network, address) }
			}
			conn, err := open()
			if err != nil {
				return nil, err
			}
			return &impatient{Conn: conn, silence: p.Silence}, nil
		},
	}
}

// impatient is a connection that may not be silent for too long.
type impatient struct {
	net.Conn
	silence time.Duration
}

// Read implements net.Conn.
func (c *impatient) Read(p []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(c.silence))
	return c.Conn.Read(p)
}

// Write implements net.Conn.
func (c *impatient) Write(p []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(c.silence))
	return c.Conn.Write(p)
}

// forwardPlain sends a request for 'http://…' to a host that has no Connector's credential.
func (v *visit) forwardPlain(w http.ResponseWriter) {
	answer := stream.NewResponse(w, v.request, v.Patience)
	r := v.request.WithContext(context.WithValue(v.request.Context(), visitKey{}, v))
	if r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody {
		body := stream.NewBody(r.Body, answer.Control, v.Patience)
		defer body.Finish()
		r.Body, answer.Body = body, body
	}
	defer func() {
		v.metrics.other(kindPlain, answer.Status, 0, answer.Bytes)
		now := v.Now()
		line := v.line(now, "forward plain", r.Method)
		line.Number(keyStatus, int64(answer.Status))
		line.Number(keyBytesOut, answer.Bytes)
		line.Number(keyDuration, now.Sub(v.begun).Milliseconds())
		line.Write()
	}()
	v.dispatcher.ServeHTTP(answer, r)
}

// sendPlain is goproxy's hook for each plain request: it sends it, and so nothing of goproxy's does.
func sendPlain(r *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	v, ok := r.Context().Value(visitKey{}).(*visit)
	if !ok {
		return r, (&refusal{status: http.StatusForbidden, message: errNoVisit.Error()}).response()
	}
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Host = net.JoinHostPort(v.target.Host, v.target.Port)
	dropHops(out.Header)
	out.Trailer, out.Close = nil, false
	if r.ContentLength == 0 {
		out.Body = nil
	}
	response, err := v.sendBy(out)
	if err != nil {
		return r, v.refusePlain(err)
	}
	if response.StatusCode == http.StatusProxyAuthRequired || response.StatusCode == http.StatusSwitchingProtocols {
		_ = response.Body.Close()
		return r, v.refusePlain(errUnasked)
	}
	dropHops(response.Header)
	response.Trailer = nil
	return r, response
}

// refusePlain is the answer to a plain request that its target has no answer to.
func (v *visit) refusePlain(err error) *http.Response {
	no := unopened(v.target, err)
	if v.request.Context().Err() != nil {
		no.reason = ReasonClientGone
	}
	v.metrics.refuse(nil, no.reason)
	v.tell(v.caller.Namespace, no)
	return no.response()
}

// sendBy sends a plain request straight to its target, or by the parent proxy.
func (v *visit) sendBy(r *http.Request) (_ *http.Response, err error) {
	if v.parent, err = v.Egress.Through(r.Context(), v.Policy(v.caller.Namespace), v.target); err != nil {
		return nil, err
	}
	if v.parent != nil {
		authorization, err := v.parent.Authorization()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", egress.ErrParent, err)
		}
		if authorization != "" {
			r.Header.Set("Proxy-Authorization", authorization)
		}
	}
	return v.plain.RoundTrip(r)
}

var errUnasked = errors.New("the host answered for a proxy")

// dropHops removes what belongs to one connection (RFC 9110 §7.6.1), and what is between a client and its proxy.
func dropHops(h http.Header) {
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	for name := range h {
		switch name {
		case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings":
			delete(h, name)
		default:
			if strings.HasPrefix(name, "Proxy-") {
				delete(h, name)
			}
		}
	}
}

var _ Egress = (*egress.Way)(nil)
