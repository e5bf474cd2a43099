package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	ask = "GET /v2/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n"
	// smuggled is what may never be served.
	smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.example.com\r\n\r\n"
)

// says5 answers everything with the same five bytes.
func says5(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "5")
	_, _ = io.WriteString(w, "hello")
}

// conversation is a client that says its text, and what it heard until the connection ended. Time stands still meanwhile.
func conversation(t *testing.T, s *Server, text string) (heard string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		go s.Serve(t.Context(), far)
		go func() { _, _ = io.WriteString(near, text) }()
		_ = near.SetDeadline(time.Now().Add(patience))
		all, err := io.ReadAll(near)
		if err != nil {
			t.Errorf("the connection stays, after %q: %v", all, err)
		}
		_ = near.Close()
		synctest.Wait()
		heard = string(all)
	})
	return heard
}

func newServer(handler http.HandlerFunc) *Server {
	return &Server{Handler: handler, Header: time.Second, Idle: time.Second, Silence: time.Second, MaxHeaderBytes: 1 << 10, Log: slog.New(slog.DiscardHandler)}
}

// answersOf parses what was heard, each answer by the method of its request.
func answersOf(t *testing.T, heard string, methods ...string) (all []*http.Response, bodies []string, rest string) {
	t.Helper()
	from := bufio.NewReader(strings.NewReader(heard))
	for _, method := range methods {
		r, err := http.ReadResponse(from, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("after %d answers: %v in %q", len(all), err, heard)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatalf("after %d answers: %v in %q", len(all), err, heard)
		}
		_ = r.Body.Close()
		all, bodies = append(all, r), append(bodies, string(body))
	}
	left, _ := io.ReadAll(from)
	return all, bodies, string(left)
}

// Where an answer ends, and whether another can follow it.
func TestFraming(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		request string // "" is ask
		handler http.HandlerFunc
		want    string // a part of the header
		body    string
		last    bool
	}{
		"a length":      {handler: says5, want: "Content-Length: 5\r\n", body: "hello"},
		"none declared": {handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, want: "Transfer-Encoding: chunked\r\n", body: "hello"},
		"two pieces": {handler: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("he"))
			_, _ = w.Write([]byte("llo"))
		}, want: "chunked", body: "hello"},
		"nothing":              {handler: func(http.ResponseWriter, *http.Request) {}, want: "Content-Length: 0\r\n"},
		"a status alone":       {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, want: "HTTP/1.1 404 Not Found\r\n"},
		"a status of nobody":   {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(599) }, want: "HTTP/1.1 599 \r\n"},
		"two statuses":         {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); w.WriteHeader(200) }, want: "HTTP/1.1 404 "},
		"an informational one": {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(404) }, want: "HTTP/1.1 404 "},
		"204":                  {handler: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204); says5(w, r) }, want: "HTTP/1.1 204 No Content\r\nDate"},
		"304":                  {handler: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304); says5(w, r) }, want: "HTTP/1.1 304 Not Modified\r\nDate"},
		"HEAD":                 {request: "HEAD" + ask[3:], handler: says5, want: "Content-Length: 5\r\n"},
		"HEAD, none declared":  {request: "HEAD" + ask[3:], handler: func(http.ResponseWriter, *http.Request) {}, want: "HTTP/1.1 200 OK\r\nDate"},
		"a length that is none": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "-5")
			_, _ = io.WriteString(w, "hello")
		}, want: "chunked", body: "hello"},
		"two lengths": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Add("Content-Length", "6")
			w.Header().Add("Content-Length", "5")
			_, _ = io.WriteString(w, "hello")
		}, want: "chunked", body: "hello"},
		"another coding":        {handler: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Transfer-Encoding", "gzip"); says5(w, r) }, want: "Content-Length: 5\r\nDate", body: "hello"},
		"a header in two lines": {handler: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-A", "b\r\nX-C: d"); says5(w, r) }, want: "X-A: b  X-C: d\r\n", body: "hello"},
		"a date":                {handler: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Date", "today"); says5(w, r) }, want: "Date: today\r\n", body: "hello"},
		"the handler's last":    {handler: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close"); says5(w, r) }, want: "Connection: close\r\n", body: "hello", last: true},
		"another connection":    {handler: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "X-A"); says5(w, r) }, want: "200 OK\r\nContent-Length", body: "hello"},
		"the client's last":     {request: ask[:len(ask)-2] + "Connection: close\r\n\r\n", handler: says5, want: "Connection: close\r\n", body: "hello", last: true},
		"HTTP/1.0":              {request: "GET /v2/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", handler: says5, want: "Connection: close\r\n", body: "hello", last: true},
		"HTTP/1.0, no length":   {request: "GET /v2/ HTTP/1.0\r\n\r\n", handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, want: "200 OK\r\nConnection: close\r\nDate", body: "hello", last: true},
		"large":                 {handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("a"), 100_000)) }, want: "chunked", body: strings.Repeat("a", 100_000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.request == "" {
				tc.request = ask
			}
			method, _, _ := strings.Cut(tc.request, " ")
			var served atomic.Int32
			heard := conversation(t, newServer(func(w http.ResponseWriter, r *http.Request) {
				if served.Add(1) == 1 {
					tc.handler(w, r)
					return
				}
				w.Header().Set("Connection", "close")
			}), tc.request+ask)
			methods := []string{method, http.MethodGet}
			if tc.last {
				methods = methods[:1]
			}
			_, bodies, rest := answersOf(t, heard, methods...)
			if bodies[0] != tc.body || rest != "" {
				t.Errorf("the body %q, and %q after all", bodies[0], rest)
			}
			if header, _, _ := strings.Cut(heard, "\r\n\r\n"); !strings.Contains(header+"\r\n", tc.want) {
				t.Errorf("header %q, want %q", header, tc.want)
			}
			if got := int(served.Load()); got != len(methods) {
				t.Errorf("served %d requests", got)
			}
		})
	}
}

// What is no request, or none that this server takes, is answered, and nothing that follows it is served.
func TestNoRequests(t *testing.T) {
	t.Parallel()
	const host = "Host: a.example.com\r\n"
	for name, tc := range map[string]struct {
		text   string
		status int
	}{
		"no line":               {"hello\r\n\r\n", 400},
		"no host":               {"GET /v2/ HTTP/1.1\r\n\r\n", 400},
		"an empty one":          {"GET /v2/ HTTP/1.1\r\nHost:\r\n\r\n", 400},
		"two":                   {"GET /v2/ HTTP/1.1\r\n" + host + host + "\r\n", 400},
		"one that is none":      {"GET /v2/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
		"a name with a space":   {"GET /v2/ HTTP/1.1\r\n" + host + "A : b\r\n\r\n", 400},
		"a name that is none":   {"GET /v2/ HTTP/1.1\r\n" + host + "A(: b\r\n\r\n", 400},
		"a value that is none":  {"GET /v2/ HTTP/1.1\r\n" + host + "A: b\x01\r\n\r\n", 400},
		"two lengths":           {"PUT /v2/ HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
		"a length that is none": {"PUT /v2/ HTTP/1.1\r\n" + host + "Content-Length: +1\r\n\r\na", 400},
		"another coding":        {"PUT /v2/ HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n", 400},
		"HTTP/2":                {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		"HTTP/0.9":              {"GET /v2/ HTTP/0.9\r\n" + host + "\r\n", 505},
		"another expectation":   {"PUT /v2/ HTTP/1.1\r\n" + host + "Expect: tea\r\nContent-Length: 1\r\n\r\na", 417},
		"a long header":         {"GET /v2/ HTTP/1.1\r\n" + host + "A: " + strings.Repeat("a", 8<<10) + "\r\n\r\n", 431},
		"an empty line":         {"\r\n" + ask, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard := conversation(t, newServer(func(http.ResponseWriter, *http.Request) { t.Error("served") }), tc.text+smuggled)
			all, bodies, rest := answersOf(t, heard, http.MethodGet)
			if all[0].StatusCode != tc.status || !all[0].Close || bodies[0] == "" || rest != "" {
				t.Errorf("%q", heard)
			}
		})
	}
}

// A body that the handler did not read, or not to its end, is not taken for the next request; its answer arrives.
func TestBodiesThatNobodyReads(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		header, body string
		read         int64
		want         int // requests
	}{
		"read":                {"Content-Length: 5\r\n", "12345", 100, 2},
		"chunks, read":        {"Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n", 100, 2},
		"an empty one":        {"Content-Length: 0\r\n", "", 0, 2},
		"not read":            {fmt.Sprintf("Content-Length: %d\r\n", len(smuggled)), smuggled, 0, 1},
		"half read":           {fmt.Sprintf("Content-Length: %d\r\n", 10+len(smuggled)), "0123456789" + smuggled, 10, 1},
		"chunks, not read":    {"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled), 0, 1},
		"chunks that are not": {"Transfer-Encoding: chunked\r\n", "z\r\n", 100, 1},
		"large":               {"Content-Length: 10000000\r\n", strings.Repeat("a", 10_000_000), 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var served atomic.Int32
			heard := conversation(t, newServer(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v2/" {
					t.Errorf("served '%s'", r.URL)
				}
				if served.Add(1) == 2 {
					w.Header().Set("Connection", "close")
				}
				_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, tc.read))
				_ = r.Body.Close()
				says5(w, r)
			}), "PUT /v2/ HTTP/1.1\r\nHost: a.example.com\r\n"+tc.header+"\r\n"+tc.body+ask)
			methods := []string{http.MethodPut, http.MethodGet}[:tc.want]
			all, _, rest := answersOf(t, heard, methods...)
			if rest != "" || int(served.Load()) != tc.want || !all[tc.want-1].Close {
				t.Errorf("served %d requests: %q", served.Load(), heard)
			}
		})
	}
}

// A client that reads only once it has sent everything gets its answer.
func TestAnswerBeforeTheBody(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		header string
		status int
	}{
		"refused by the handler": {"", 403},
		"and by the server":      {"Expect: tea\r\n", 417},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, far := dialled(t)
			var served sync.WaitGroup
			served.Go(func() {
				newServer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }).Serve(t.Context(), far)
			})
			_ = near.SetDeadline(time.Now().Add(patience))
			_, err := io.WriteString(near, "PUT /v2/ HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 20000000\r\n"+tc.header+"\r\n"+strings.Repeat("a", 20_000_000))
			if err != nil {
				t.Error(err)
			}
			answer, err := http.ReadResponse(bufio.NewReader(near), nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if answer.StatusCode != tc.status {
				t.Errorf("status %d", answer.StatusCode)
			}
			_ = near.Close()
			served.Wait()
		})
	}
}

// Status 100 comes when the body is first read, and not after the answer.
func TestExpectations(t *testing.T) {
	t.Parallel()
	const announced = "PUT /v2/ HTTP/1.1\r\nHost: a.example.com\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n"
	for name, tc := range map[string]struct {
		before, after bool // it reads the body then
		body          string
		want          []int
	}{
		"read":                  {before: true, body: "12345", want: []int{100, 200}},
		"half of it sent":       {before: true, body: "12", want: []int{100, 200}},
		"not read":              {want: []int{200}},
		"read after the answer": {after: true, want: []int{200}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard := conversation(t, newServer(func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
				if tc.before {
					_, _ = io.ReadAll(r.Body)
				}
				w.Header().Set("Connection", "close")
				says5(w, r)
				if tc.after {
					_, _ = io.ReadAll(r.Body)
				}
			}), announced+tc.body)
			var got []int
			for line := range strings.SplitSeq(heard, "\r\n") {
				if _, status, ok := strings.Cut(line, "HTTP/1.1 "); ok {
					n, _ := strconv.Atoi(status[:3])
					got = append(got, n)
				}
			}
			if !slices.Equal(got, tc.want) || !strings.HasSuffix(heard, "hello") {
				t.Errorf("%q", heard)
			}
		})
	}
}

// An answer that is not as long as it says ends its connection; one that is longer is cut.
func TestLengthsThatAreNotKept(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ body, want string }{
		"shorter": {"hell", "hell"},
		"longer":  {"hello, and more", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var failed error
			heard := conversation(t, newServer(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "5")
				_, failed = io.WriteString(w, tc.body)
			}), ask+smuggled)
			if _, body, _ := strings.Cut(heard, "\r\n\r\n"); body != tc.want {
				t.Errorf("%q", heard)
			}
			if wrong := errors.Is(failed, http.ErrContentLength); wrong != (name == "longer") {
				t.Errorf("the handler got %v", failed)
			}
		})
	}
}

// A panic ends its connection: what was answered does not look whole. It is logged, but for the one that means just that.
func TestPanics(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		with any
		log  string
	}{
		"any":     {"on purpose", "on purpose"},
		"silent":  {http.ErrAbortHandler, ""},
		"a wrong": {io.EOF, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			s := newServer(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "hello")
				_ = http.NewResponseController(w).Flush()
				panic(tc.with)
			})
			s.Log = slog.New(slog.NewTextHandler(&log, nil))
			heard := conversation(t, s, ask+smuggled)
			if !strings.HasSuffix(heard, "5\r\nhello\r\n") {
				t.Errorf("%q", heard)
			}
			if got := log.String(); (got == "") != (tc.log == "") || !strings.Contains(got, tc.log) {
				t.Errorf("the log says %q", got)
			}
		})
	}
}

// How long a client may stand still.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	slow := func(near net.Conn) { // a byte within each half of what a whole header may take
		for _, b := range []byte(ask) {
			if _, err := near.Write([]byte{b}); err != nil {
				return
			}
			<-time.After(50 * time.Second) // of the bubble
		}
	}
	for name, tc := range map[string]struct {
		client  func(near net.Conn)
		handler http.HandlerFunc
		want    time.Duration // from its beginning until the connection ends
	}{
		"nothing comes":       {func(net.Conn) {}, says5, time.Hour},
		"a header that drips": {slow, says5, 100 * time.Second},
		"nothing comes after": {func(near net.Conn) { _, _ = io.WriteString(near, ask); hear(near, "hello") }, says5, time.Hour},
		"nothing is read":     {func(near net.Conn) { _, _ = io.WriteString(near, ask) }, says5, time.Minute},
		"a handler's deadline": {func(near net.Conn) { _, _ = io.WriteString(near, ask) }, func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
			says5(w, r)
		}, time.Second},
		// It is for that request.
		"a handler's, before": {func(near net.Conn) { _, _ = io.WriteString(near, ask); hear(near, "hello") }, func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
			says5(w, r)
		}, time.Hour},
		"a handler's write deadline, before": {func(near net.Conn) {
			_, _ = io.WriteString(near, ask)
			hear(near, "hello")
			_, _ = io.WriteString(near, "HEAD"+ask[3:])
		}, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
			}
			says5(w, r)
		}, time.Minute},
		"status 100, long after an answer": {func(near net.Conn) {
			_, _ = io.WriteString(near, ask)
			hear(near, "hello")
			<-time.After(30 * time.Minute)
			_, _ = io.WriteString(near, "PUT /v2/ HTTP/1.1\r\nHost: a.example.com\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
			hear(near, "100 Continue\r\n\r\n")
			_, _ = io.WriteString(near, "a")
			hear(near, "hello")
		}, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			says5(w, r)
		}, 90 * time.Minute},
		"a body may take longer than a header": {func(near net.Conn) {
			_, _ = io.WriteString(near, "PUT /v2/ HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 2\r\n\r\na")
			<-time.After(2 * time.Hour)
			_, _ = io.WriteString(near, "b")
			hear(near, "hello")
		}, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			says5(w, r)
		}, 3 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &Server{Handler: tc.handler, Header: 100 * time.Second, Idle: time.Hour, Silence: time.Minute, Log: slog.New(slog.DiscardHandler)}
				near, far := net.Pipe()
				defer near.Close()
				begun := time.Now()
				defer time.AfterFunc(10*time.Hour, func() { _ = near.Close() }).Stop()
				var client sync.WaitGroup
				client.Go(func() { tc.client(near) })
				s.Serve(t.Context(), far)
				if got := time.Since(begun); got != tc.want {
					t.Errorf("it ends after %v, want %v", got, tc.want)
				}
				_ = near.Close()
				client.Wait()
			})
		})
	}
}

// hear reads an answer that ends like that.
func hear(from io.Reader, end string) {
	var heard []byte
	for one := make([]byte, 1); !strings.HasSuffix(string(heard), end); {
		if _, err := from.Read(one); err != nil {
			return
		}
		heard = append(heard, one...)
	}
}

// dialled are the two ends of a connection that the kernel knows.
func dialled(t *testing.T) (near, far net.Conn) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if near, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// The context of a request ends when its client leaves, though it has said more that nobody has read.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{"silent": "", "talking": smuggled} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, far := dialled(t)
			begun, ended := make(chan struct{}), make(chan struct{})
			s := newServer(func(_ http.ResponseWriter, r *http.Request) {
				close(begun)
				await(waits(r.Context()))
				if r.Context().Err() != nil {
					close(ended)
				}
			})
			var served sync.WaitGroup
			served.Go(func() { s.Serve(t.Context(), far) })
			_, _ = io.WriteString(near, ask+more)
			<-begun
			_ = near.Close()
			served.Wait()
			select {
			case <-ended:
			default:
				t.Error("it goes on")
			}
		})
	}
}

// waits is closed when the context ends.
func waits(ctx context.Context) chan struct{} {
	over := make(chan struct{})
	context.AfterFunc(ctx, func() { close(over) })
	return over
}

// A context ends with its request, and one that stays is not looked for.
func TestContextOfARequest(t *testing.T) {
	t.Parallel()
	var held []context.Context
	conversation(t, newServer(func(w http.ResponseWriter, r *http.Request) {
		for _, before := range held {
			if before.Err() == nil {
				t.Error("the context before goes on")
			}
		}
		if r.Context().Err() != nil {
			t.Error("the context has ended before its request")
		}
		held = append(held, r.Context())
		if len(held) == 2 {
			w.Header().Set("Connection", "close")
		}
	}), ask+ask)
	if len(held) != 2 {
		t.Errorf("%d requests", len(held))
	}
}

// A server that ends closes what is idle, lets answers end, and serves nothing more.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]bool{"to its end": false, "cut": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun, finish := make(chan struct{}), make(chan struct{})
			s := newServer(func(w http.ResponseWriter, r *http.Request) {
				close(begun)
				await(finish)
				says5(w, r)
			})
			s.Idle = 0
			var all sync.WaitGroup
			idle, farIdle := dialled(t)
			busy, farBusy := dialled(t)
			for _, far := range []net.Conn{farIdle, farBusy} {
				all.Go(func() { s.Serve(t.Context(), far) })
			}
			_, _ = io.WriteString(busy, ask)
			_ = idle.SetDeadline(time.Now().Add(patience))
			<-begun
			eventually(t, "both are served", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.serving) == 2 })
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Shutdown(ctx) }()
			if rest, err := io.ReadAll(idle); err != nil || len(rest) > 0 {
				t.Errorf("the idle one: %q, %v", rest, err)
			}
			_ = idle.Close()
			if cut {
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Errorf("it ends with %v", err)
				}
			}
			close(finish)
			heard, _ := io.ReadAll(busy)
			if whole := strings.Contains(string(heard), "Connection: close\r\n") && strings.HasSuffix(string(heard), "hello"); whole == cut {
				t.Errorf("%q", heard)
			}
			all.Wait()
			if !cut {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
			cancel()
			if err := s.Shutdown(t.Context()); err != nil {
				t.Errorf("once more: %v", err)
			}
			if heard := conversation(t, s, smuggled); heard != "" {
				t.Errorf("after it: %q", heard)
			}
		})
	}
}
