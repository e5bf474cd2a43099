package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth.dev/berth/proxy/stream"
)

// patience is for what must come to pass.
const patience = 10 * time.Second

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	for end := time.Now().Add(patience); !holds(); <-ticks.C {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// await is for what a test brings about: should it fail to, a client hangs no longer than that, and ok is false.
func await(over chan struct{}) (ok bool) {
	select {
	case <-over:
		return true
	case <-time.After(patience):
		return false
	}
}

// server is one that answers by hand.
type server struct {
	url         string
	transport   *Transport
	connections atomic.Int32
	open        atomic.Int32
}

// serve has each connection's requests answered by the function, which says whether the connection goes on.
func serve(t *testing.T, secure bool, answer func(net.Conn, *http.Request) bool) *server {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{url: "http://" + listener.Addr().String(), transport: &Transport{Dial: (&net.Dialer{}).DialContext}}
	if secure {
		listener = s.secure(t, listener)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		s.transport.Close()
		_ = listener.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.connections.Add(1)
			s.open.Add(1)
			all.Go(func() {
				defer s.open.Add(-1)
				defer conn.Close()
				talk(conn, answer)
			})
		}
	})
	return s
}

func talk(conn net.Conn, answer func(net.Conn, *http.Request) bool) {
	for from := bufio.NewReader(conn); ; {
		r, err := http.ReadRequest(from)
		if err != nil || !answer(conn, r) {
			return
		}
	}
}

// secure returns the listener with TLS on it, and has the transport trust it.
func (s *server) secure(t *testing.T, listener net.Listener) net.Listener {
	t.Helper()
	pattern := httptest.NewUnstartedServer(nil)
	pattern.StartTLS()
	defer pattern.Close()
	roots := x509.NewCertPool()
	roots.AddCert(pattern.Certificate())
	s.url = strings.Replace(s.url, "http:", "https:", 1)
	s.transport.DialTLS = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		secured := stream.NewBuffers().Client(conn, &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12})
		return secured, secured.HandshakeContext(ctx)
	}
	return tls.NewListener(listener, &tls.Config{Certificates: pattern.TLS.Certificates, MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true})
}

// says answers everything with the same text.
func says(text string) func(net.Conn, *http.Request) bool {
	return func(conn net.Conn, _ *http.Request) bool {
		_, err := io.WriteString(conn, text)
		return err == nil
	}
}

func (s *server) request(t *testing.T, method string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+"/v2/", body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ask sends a request and reads the whole answer.
func (s *server) ask(t *testing.T, method string) (string, error) {
	t.Helper()
	response, err := s.transport.RoundTrip(s.request(t, method, nil))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var got strings.Builder
	// A large buffer goes past the small one of the connection.
	_, err = io.CopyBuffer(struct{ io.Writer }{&got}, response.Body, make([]byte, 32<<10))
	return got.String(), err
}

// askAtOnce has as many connections.
func (s *server) askAtOnce(t *testing.T, count int) {
	t.Helper()
	all := make([]*http.Response, count)
	for i := range all {
		var err error
		if all[i], err = s.transport.RoundTrip(s.request(t, http.MethodGet, nil)); err != nil {
			t.Fatal(err)
		}
	}
	for _, response := range all {
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
}

// idle are the connections that serve no request.
func (s *server) idle() (all []*conn) {
	s.transport.pool.mu.Lock()
	defer s.transport.pool.mu.Unlock()
	for _, some := range s.transport.pool.idle {
		all = append(all, some...)
	}
	return all
}

const (
	plainAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
	unasked     = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
)

// TestWhichConnectionsServeAgain: those on which both ends have said all and nothing more, in clear and over TLS.
func TestWhichConnectionsServeAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		method string
		answer string
		want   string
		again  bool
	}{
		"a length":                       {answer: plainAnswer, want: "hello", again: true},
		"chunks":                         {answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: "hello", again: true},
		"chunks and trailers":            {answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n", want: "hello", again: true},
		"no body":                        {answer: "HTTP/1.1 204 No Content\r\n\r\n", again: true},
		"not modified":                   {answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", again: true},
		"an empty body":                  {answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", again: true},
		"to HEAD":                        {method: http.MethodHead, answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", again: true},
		"informational ones before":      {answer: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + plainAnswer, want: "hello", again: true},
		"kept by HTTP/1.0":               {answer: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", want: "hello", again: true},
		"of HTTP/1.0":                    {answer: "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", want: "hello"},
		"that says it closes":            {answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", want: "hello"},
		"that says it closes, empty":     {answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
		"another protocol":               {answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"},
		"a second answer":                {answer: plainAnswer + unasked, want: "hello"},
		"a body to HEAD":                 {method: http.MethodHead, answer: plainAnswer},
		"a body to 304":                  {answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello"},
		"a byte too much":                {answer: plainAnswer + "!", want: "hello"},
		"a byte too much after chunks":   {answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n!", want: "hello"},
		"a second answer, far behind it": {answer: "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("hello", 1000) + unasked, want: strings.Repeat("hello", 1000)},
	} {
		for front, secure := range map[string]bool{"in clear": false, "TLS": true} {
			t.Run(name+", "+front, func(t *testing.T) {
				t.Parallel()
				s := serve(t, secure, says(test.answer))
				method := test.method
				if method == "" {
					method = http.MethodGet
				}
				for n := range int32(3) {
					if got, err := s.ask(t, method); got != test.want || err != nil {
						t.Fatalf("%q, %v", got, err)
					}
					want := n + 1
					if test.again {
						want = 1
					}
					if got := s.connections.Load(); got != want {
						t.Fatalf("%d connections for %d requests, want %d", got, n+1, want)
					}
				}
			})
		}
	}
}

// TestWhatComesLater: bytes that come while nobody asks, in any piece of a TLS record, end a connection.
func TestWhatComesLater(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		secure bool
		later  func(net.Conn)
	}{
		"an answer":            {false, func(c net.Conn) { _, _ = io.WriteString(c, unasked) }},
		"an answer, TLS":       {true, func(c net.Conn) { _, _ = io.WriteString(c, unasked) }},
		"the end":              {false, func(c net.Conn) { _ = c.Close() }},
		"the end, TLS":         {true, func(c net.Conn) { _ = c.Close() }},
		"half a record":        {true, func(c net.Conn) { _, _ = c.(*tls.Conn).NetConn().Write([]byte{23, 3}) }},
		"the end, without TLS": {true, func(c net.Conn) { _ = c.(*tls.Conn).NetConn().Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var once sync.Once
			say := make(chan struct{})
			s := serve(t, test.secure, func(conn net.Conn, r *http.Request) bool {
				once.Do(func() {
					go func() {
						<-say
						test.later(conn)
					}()
				})
				return says(plainAnswer)(conn, r)
			})
			if got, err := s.ask(t, http.MethodGet); got != "hello" || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			all := s.idle()
			if len(all) != 1 || !stream.Quiet(all[0].Conn) {
				t.Fatalf("%d connections are kept", len(all))
			}
			close(say)
			eventually(t, "it has come", func() bool { return !stream.Quiet(all[0].Conn) })
			if got, err := s.ask(t, http.MethodGet); got != "hello" || err != nil || s.connections.Load() != 2 {
				t.Errorf("%q, %v, on %d connections", got, err, s.connections.Load())
			}
		})
	}
}

// opaque is a connection that the kernel cannot be asked about, as TLS to a parent proxy.
type opaque struct{ net.Conn }

// TestConnectionsThatNobodyKnowsOf: one that may hold what nobody asked for serves no other request.
func TestConnectionsThatNobodyKnowsOf(t *testing.T) {
	t.Parallel()
	s := serve(t, false, says(plainAnswer))
	s.transport.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return opaque{conn}, err
	}
	for n := range int32(2) {
		if got, err := s.ask(t, http.MethodGet); got != "hello" || err != nil || s.connections.Load() != n+1 {
			t.Errorf("%q, %v, on %d connections", got, err, s.connections.Load())
		}
	}
}

// TestAnswerNotReadToItsEnd: who closes a body early closes the connection with it.
func TestAnswerNotReadToItsEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, false, says(plainAnswer))
	response, err := s.transport.RoundTrip(s.request(t, http.MethodGet, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = response.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err = response.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err = response.Body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("a read after the close: %v", err)
	}
	eventually(t, "it is closed", func() bool { return s.open.Load() == 0 })
	if len(s.idle()) != 0 {
		t.Error("it is kept")
	}
}

// TestAnswersThatFail: each is an error, of the answer or of its body, and none keeps a connection.
func TestAnswersThatFail(t *testing.T) {
	t.Parallel()
	const soon = 50 * time.Millisecond
	for name, test := range map[string]struct {
		answer string
		stays  bool // after it the server says nothing, instead of closing
		with   func(*Transport)
		want   error
		ofBody bool
	}{
		"nothing":                   {want: io.ErrUnexpectedEOF},
		"half a header":             {answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", want: io.ErrUnexpectedEOF},
		"half a body":               {answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", want: io.ErrUnexpectedEOF, ofBody: true},
		"half a chunk":              {answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", want: io.ErrUnexpectedEOF, ofBody: true},
		"a large header":            {answer: "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 5000) + "\r\nContent-Length: 0\r\n\r\n", with: func(t *Transport) { t.MaxHeaderBytes = 4096 }, want: ErrHeaderTooLarge},
		"informational for ever":    {answer: strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 1000), with: func(t *Transport) { t.MaxHeaderBytes = 4096 }, want: ErrHeaderTooLarge},
		"silence":                   {stays: true, with: func(t *Transport) { t.Header = soon }, want: os.ErrDeadlineExceeded},
		"silence within the header": {answer: "HTTP/1.1 200 OK\r\n", stays: true, with: func(t *Transport) { t.Header = soon }, want: os.ErrDeadlineExceeded},
		"silence after a 102":       {answer: "HTTP/1.1 102 Processing\r\n\r\n", stays: true, with: func(t *Transport) { t.Header = soon }, want: os.ErrDeadlineExceeded},
		"silence within the body":   {answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", stays: true, with: func(t *Transport) { t.Header, t.Silence = patience, soon }, want: os.ErrDeadlineExceeded, ofBody: true},
		"two lengths":               {answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"},
		"no HTTP":                   {answer: "SSH-2.0-OpenSSH_9.2\r\n"},
	} {
		for front, secure := range map[string]bool{"in clear": false, "TLS": true} {
			t.Run(name+", "+front, func(t *testing.T) {
				t.Parallel()
				over := make(chan struct{})
				s := serve(t, secure, func(conn net.Conn, _ *http.Request) bool {
					_, _ = io.WriteString(conn, test.answer)
					if test.stays {
						await(over)
					}
					return false
				})
				defer close(over)
				if test.with != nil {
					test.with(s.transport)
				}
				response, err := s.transport.RoundTrip(s.request(t, http.MethodGet, nil))
				if test.ofBody == (err != nil) {
					t.Fatalf("%v before the body", err)
				}
				if test.ofBody {
					_, err = io.ReadAll(response.Body)
					_ = response.Body.Close()
				}
				if err == nil || test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("%v, want %v", err, test.want)
				}
				if len(s.idle()) != 0 {
					t.Error("the connection is kept")
				}
			})
		}
	}
}

// TestContextEnds: wherever an exchange is, its context ends it, and the error is the cause.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	cause := errors.New("the client left")
	for name, test := range map[string]struct {
		answer string
		body   io.Reader
		ofBody bool
	}{
		"before the answer": {},
		"within the header": {answer: "HTTP/1.1 200 OK\r\n"},
		"within the body":   {answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", ofBody: true},
		"within an upload":  {body: endless{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			over := make(chan struct{})
			s := serve(t, true, func(conn net.Conn, _ *http.Request) bool {
				_, _ = io.WriteString(conn, test.answer)
				if !test.ofBody {
					cancel(cause)
				}
				if !await(over) {
					t.Error("it ended for another reason")
				}
				return false
			})
			defer close(over)
			response, err := s.transport.RoundTrip(s.request(t, http.MethodPut, test.body).WithContext(ctx))
			if test.ofBody && err == nil {
				_, err = io.ReadFull(response.Body, make([]byte, 3))
				cancel(cause)
				if err == nil {
					_, err = response.Body.Read(make([]byte, 1))
				}
				_ = response.Body.Close()
			}
			if !errors.Is(err, cause) || len(s.idle()) != 0 {
				t.Errorf("%v, and %d connections kept", err, len(s.idle()))
			}
		})
	}
}

// TestContextThatEndedBefore: nothing is sent for it.
func TestContextThatEndedBefore(t *testing.T) {
	t.Parallel()
	s := serve(t, false, says(plainAnswer))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	body := &closing{Reader: strings.NewReader("body")}
	if _, err := s.transport.RoundTrip(s.request(t, http.MethodPut, body).WithContext(ctx)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if !body.closed.Load() {
		t.Error("the body is open")
	}
}

// closing is a body that knows whether it was closed.
type closing struct {
	io.Reader
	closed atomic.Bool
}

func (c *closing) Close() error { c.closed.Store(true); return nil }

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestIdle: connections that serve no request are closed when they have been idle for long, when there are too many, and when all are.
func TestIdle(t *testing.T) {
	t.Parallel()
	t.Run("for long", func(t *testing.T) {
		t.Parallel()
		s := serve(t, false, says(plainAnswer))
		s.transport.Idle = 20 * time.Millisecond
		for n := range int32(3) { // one timer after the other
			if _, err := s.ask(t, http.MethodGet); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is closed", func() bool { return s.connections.Load() >= n+1 && s.open.Load() == 0 && len(s.idle()) == 0 })
		}
	})
	t.Run("too many", func(t *testing.T) {
		t.Parallel()
		s := serve(t, false, says(plainAnswer))
		s.transport.MaxIdle = 2
		s.askAtOnce(t, 5)
		eventually(t, "three are closed", func() bool { return s.open.Load() == 2 && len(s.idle()) == 2 })
	})
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		s := serve(t, false, says(plainAnswer))
		s.transport.Idle = time.Hour
		busy, err := s.transport.RoundTrip(s.request(t, http.MethodGet, nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.ask(t, http.MethodGet); err != nil || len(s.idle()) != 1 {
			t.Fatalf("%v, %d kept", err, len(s.idle()))
		}
		s.transport.Close()
		eventually(t, "one is closed", func() bool { return s.open.Load() == 1 })
		if got, err := io.ReadAll(busy.Body); string(got) != "hello" || err != nil {
			t.Errorf("a request on its way: %q, %v", got, err)
		}
		_ = busy.Body.Close()
		eventually(t, "the other one is closed", func() bool { return s.open.Load() == 0 })
	})
}

// TestOthersAsOld: where a connection that has served before fails, others like it are not tried.
func TestOthersAsOld(t *testing.T) {
	t.Parallel()
	var failing atomic.Bool
	s := serve(t, false, func(conn net.Conn, r *http.Request) bool {
		return !failing.Load() && says(plainAnswer)(conn, r)
	})
	s.askAtOnce(t, 3)
	if len(s.idle()) != 3 {
		t.Fatalf("%d are kept", len(s.idle()))
	}
	failing.Store(true)
	if _, err := s.ask(t, http.MethodGet); err == nil {
		t.Fatal("it did not fail")
	}
	failing.Store(false)
	if got, err := s.ask(t, http.MethodGet); got != "hello" || err != nil || s.connections.Load() != 4 {
		t.Errorf("%q, %v, on %d connections", got, err, s.connections.Load())
	}
}

// TestAddress: what is dialled for an origin.
func TestAddress(t *testing.T) {
	t.Parallel()
	for to, want := range map[origin]string{
		{"http", "a.example"}:       "a.example:80",
		{"https", "a.example"}:      "a.example:443",
		{"https", "a.example:5000"}: "a.example:5000",
		{"http", "[fd00::1]"}:       "[fd00::1]:80",
		{"https", "[fd00::1]:5000"}: "[fd00::1]:5000",
	} {
		if got := to.address(); got != want {
			t.Errorf("%v: %s, want %s", to, got, want)
		}
	}
	if _, err := new(Transport).RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "ftp://a.example/", http.NoBody)); err == nil {
		t.Error("FTP is spoken")
	}
}

// lasting is a connection that stays open.
type lasting struct{ net.Conn }

func (lasting) Close() error { return nil }

// An answer to a request whose context has ended is none, though it comes before the connection is closed.
func TestAnswerAfterTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	via := &Transport{Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		t.Cleanup(func() { _ = near.Close() })
		go func() {
			defer far.Close()
			if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
				cancel()
				_, _ = io.WriteString(far, plainAnswer)
			}
		}()
		return lasting{near}, nil
	}}
	defer via.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://registry.example.com/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := via.RoundTrip(r)
	if err == nil {
		_ = response.Body.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}
