package http1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answered is what a client makes of an answer.
type answered struct {
	failed, bodyFailed bool
	status             int
	header, trailer    string
	body               string
}

// heard asks through a transport whose one connection brings these bytes and then its end.
func heard(t *testing.T, via http.RoundTripper, method string) (a answered, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://registry.example.com/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := via.RoundTrip(r)
	if err != nil {
		return answered{failed: true}, err
	}
	defer response.Body.Close()
	a = answered{status: response.StatusCode}
	if a.status != http.StatusSwitchingProtocols {
		body, failed := io.ReadAll(response.Body)
		a.body, a.bodyFailed = string(body), failed != nil
	}
	// Maps are printed in the order of their keys.
	a.header, a.trailer = fmt.Sprint(response.Header), fmt.Sprint(response.Trailer)
	return a, nil
}

// once dials a connection whose far end says the text, and any other in vain.
func once(text string) func(context.Context, string, string) (net.Conn, error) {
	dialled := false
	return func(context.Context, string, string) (net.Conn, error) {
		if dialled {
			return nil, net.ErrClosed
		}
		dialled = true
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
				_, _ = io.WriteString(far, text)
			}
		}()
		return near, nil
	}
}

// FuzzAnswer: an answer means here what it means to net/http's own client, whatever its bytes are.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{
		plainAnswer, plainAnswer + unasked, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n" + plainAnswer,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nhello", "HTTP/1.1 101 a\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 000 A\r\n\r\n",
	} {
		f.Add(text, false)
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text string, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		theirs := &http.Transport{DialContext: once(text), DisableCompression: true}
		defer theirs.CloseIdleConnections()
		want, why := heard(t, theirs, method)
		if why == nil && want.status < http.StatusContinue {
			want = answered{failed: true}
		}
		if why != nil && strings.Contains(why.Error(), "too many 1xx") { // here the size of the header bounds them
			return
		}
		ours := &Transport{Dial: once(text)}
		defer ours.Close()
		if got, err := heard(t, ours, method); got != want {
			t.Errorf("%+v (%v), and to net/http %+v (%v)", got, err, want, why)
		}
	})
}

// script is a client that says its text at once, and reads nothing.
type script struct {
	net.Conn

	text *strings.Reader
}

func newScript(text string) *script {
	near, _ := net.Pipe()
	return &script{near, strings.NewReader(text)}
}

func (s *script) Read(p []byte) (int, error)       { return s.text.Read(p) }
func (*script) Write(p []byte) (int, error)        { return len(p), nil }
func (*script) SetDeadline(time.Time) error        { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// single is a listener of one connection. It ends when that has closed.
type single struct {
	conn  *script
	taken bool
	ended chan struct{}
}

func (l *single) Accept() (net.Conn, error) {
	if !l.taken {
		l.taken = true
		return l.conn, nil
	}
	<-l.ended
	return nil, net.ErrClosed
}

func (*single) Close() error     { return nil }
func (l *single) Addr() net.Addr { return l.conn.LocalAddr() }

// asked is what a server takes a text for.
type asked struct {
	all   []string
	bears []bool // the address of the request itself names the host
}

// ServeHTTP implements http.Handler.
func (a *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	a.bears = append(a.bears, r.URL.Host != "")
	a.all = append(a.all, fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.URL, " ", r.Proto, " ", r.Host, " ", r.Header, " ", r.ContentLength, " ", r.TransferEncoding, " ", string(body), " ", err))
	w.WriteHeader(http.StatusNoContent)
}

// FuzzServer: what is served here is what net/http's own server serves, whatever a client says: no request more, and none that reads otherwise.
func FuzzServer(f *testing.F) {
	for _, text := range []string{
		ask, ask + smuggled, "PUT /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" + ask,
		"PUT /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n" + ask,
		"PUT /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" + ask,
		"PUT /v2/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi" + ask,
		"GET http://b/ HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + ask, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n" + ask, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\r\n" + ask,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + smuggled, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", "GET / HTTP/1.1\nHost: a\n\n" + ask,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var theirs asked
		alone := &single{conn: newScript(text), ended: make(chan struct{})}
		standard := &http.Server{Handler: &theirs, DisableGeneralOptionsHandler: true, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				close(alone.ended)
			}
		}}
		_ = standard.Serve(alone)
		var ours asked
		(&Server{Handler: &ours, Log: slog.New(slog.DiscardHandler)}).Serve(t.Context(), newScript(text))
		for i, got := range ours.all {
			switch {
			case i < len(theirs.all) && got == theirs.all[i]:
			case i >= len(theirs.all) && ours.bears[i]: // there the header `Host`, which counts for nothing then, is looked at too
				return
			default:
				t.Errorf("request %d is %q, and to net/http they are %q", i, got, theirs.all)
			}
		}
	})
}
