package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

// asking is a body that waits until the server has asked for it.
type asking struct {
	io.Reader
	asked chan struct{}
	times atomic.Int32
}

func (a *asking) Continue() {
	if a.times.Add(1) == 1 {
		close(a.asked)
	}
}

func (a *asking) Read(p []byte) (int, error) {
	<-a.asked
	return a.Reader.Read(p)
}

func (*asking) Close() error { return nil }

// echo answers with the body that it got.
func echo(conn net.Conn, r *http.Request) bool {
	got, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(got), got)
	return err == nil
}

// TestUploads: a body goes out whole, with its length or in chunks, and the connection serves again.
func TestUploads(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("a layer, ", 100_000)
	for name, test := range map[string]struct {
		secure bool
		length int64
	}{
		"of known length":      {false, int64(len(content))},
		"in chunks":            {false, -1},
		"of known length, TLS": {true, int64(len(content))},
		"in chunks, TLS":       {true, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, test.secure, echo)
			s.transport.Header, s.transport.Silence = patience, patience
			for range 3 {
				body := &closing{Reader: strings.NewReader(content)}
				r := s.request(t, http.MethodPut, body)
				r.ContentLength = test.length
				response, err := s.transport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(response.Body)
				if string(got) != content || err != nil || response.Body.Close() != nil {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
				eventually(t, "the connection is free, and the body closed", func() bool { return len(s.idle()) == 1 && body.closed.Load() })
			}
			if got := s.connections.Load(); got != 1 {
				t.Errorf("%d connections", got)
			}
		})
	}
}

// TestContinue: a body hears that the server has asked for it.
func TestContinue(t *testing.T) {
	t.Parallel()
	s := serve(t, false, func(conn net.Conn, r *http.Request) bool {
		_, _ = io.WriteString(conn, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
		return echo(conn, r)
	})
	body := &asking{Reader: strings.NewReader("a layer"), asked: make(chan struct{})}
	r := s.request(t, http.MethodPut, body)
	r.ContentLength = 7
	response, err := s.transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(response.Body); string(got) != "a layer" || err != nil || body.times.Load() != 1 {
		t.Errorf("%q, %v, asked %d times", got, err, body.times.Load())
	}
	_ = response.Body.Close()
}

// TestEarlyAnswer: an answer comes although the body has not gone out, and whole; the connection serves no other request.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	for name, goesOn := range map[string]bool{"the server closes": false, "the server reads no more": true} {
		for front, secure := range map[string]bool{"in clear": false, "TLS": true} {
			t.Run(name+", "+front, func(t *testing.T) {
				t.Parallel()
				over := make(chan struct{})
				s := serve(t, secure, func(conn net.Conn, r *http.Request) bool {
					if r.Method == http.MethodGet {
						return says(plainAnswer)(conn, r)
					}
					_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
					_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge")
					if goesOn {
						await(over)
					}
					return false
				})
				defer close(over)
				body := &closing{Reader: endless{}}
				r := s.request(t, http.MethodPut, body)
				r.ContentLength = 1 << 40
				response, err := s.transport.RoundTrip(r)
				if err != nil {
					if !goesOn { // what the server had said is gone where it closed with bytes unread
						return
					}
					t.Fatal(err)
				}
				if got, err := io.ReadAll(response.Body); goesOn && (string(got) != "large" || err != nil) {
					t.Errorf("%q, %v", got, err)
				}
				_ = response.Body.Close()
				if got, err := s.ask(t, http.MethodGet); got != "hello" || err != nil || s.connections.Load() != 2 {
					t.Errorf("%q, %v, on %d connections", got, err, s.connections.Load())
				}
			})
		}
	}
}

// TestBodyThatFailsAfterTheAnswer: what the server takes for the rest of the body may not be the next request.
func TestBodyThatFailsAfterTheAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, false, func(conn net.Conn, r *http.Request) bool {
		_, _ = io.WriteString(conn, plainAnswer)
		_, err := io.Copy(io.Discard, r.Body)
		return err == nil
	})
	from, to := io.Pipe()
	r := s.request(t, http.MethodPut, from)
	r.ContentLength = 100
	response, err := s.transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(response.Body); string(got) != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_ = response.Body.Close()
	_ = to.CloseWithError(errors.New("withdrawn"))
	eventually(t, "the connection is closed", func() bool { return s.open.Load() == 0 })
	if len(s.idle()) != 0 {
		t.Error("the connection is kept")
	}
}

// TestUploadsThatFail: the error is that of the body, or that the server stood still.
func TestUploadsThatFail(t *testing.T) {
	t.Parallel()
	broken := errors.New("the client stood still")
	const soon = 50 * time.Millisecond
	const stuck, reads = false, true
	for name, test := range map[string]struct {
		body   io.Reader
		length int64
		server bool
		header time.Duration
		quiet  time.Duration
		want   error
	}{
		"the body":                         {io.MultiReader(strings.NewReader("begun"), iotest.ErrReader(broken)), 100, reads, 0, 0, broken},
		"the body, in chunks":              {io.MultiReader(strings.NewReader("begun"), iotest.ErrReader(broken)), -1, reads, 0, 0, broken},
		"a body that is too short":         {strings.NewReader("begun"), 100, reads, 0, 0, nil},
		"a body that is too long":          {strings.NewReader("begun"), 2, reads, patience, 0, nil},
		"a server that takes nothing":      {endless{}, 1 << 40, stuck, 0, soon, os.ErrDeadlineExceeded},
		"a server that takes no chunk":     {endless{}, -1, stuck, 0, soon, os.ErrDeadlineExceeded},
		"a server that says nothing after": {strings.NewReader("begun"), 5, stuck, soon, 0, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			over := make(chan struct{})
			s := serve(t, false, func(_ net.Conn, r *http.Request) bool {
				if test.server == stuck {
					await(over)
					return false
				}
				_, err := io.Copy(io.Discard, r.Body)
				return err == nil
			})
			defer close(over)
			s.transport.Header, s.transport.Silence = test.header, test.quiet
			body := &closing{Reader: test.body}
			r := s.request(t, http.MethodPut, body)
			r.ContentLength = test.length
			response, err := s.transport.RoundTrip(r)
			if err == nil {
				_ = response.Body.Close()
			}
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			eventually(t, "the body is closed", body.closed.Load)
			if len(s.idle()) != 0 {
				t.Error("the connection is kept")
			}
		})
	}
}

// told is a connection that says when it is closed, and stays open.
type told struct {
	net.Conn

	close func()
}

func (c told) Close() error {
	c.close()
	return nil
}

// An answer to a request whose body broke is none, though it comes before the connection is closed.
func TestAnswerToABrokenBody(t *testing.T) {
	t.Parallel()
	broken := errors.New("the client left")
	via := &Transport{Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		t.Cleanup(func() { _ = near.Close() })
		closed := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, far) }()
		go func() {
			defer far.Close()
			<-closed
			_, _ = io.WriteString(far, plainAnswer)
		}()
		return told{near, sync.OnceFunc(func() { close(closed) })}, nil
	}}
	defer via.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://registry.example.com/v2/", io.MultiReader(strings.NewReader("begun"), iotest.ErrReader(broken)))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 100
	response, err := via.RoundTrip(r)
	if err == nil {
		_ = response.Body.Close()
	}
	if !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
}

// TestSlowPieces: how long a body takes for its next piece is no matter of the server's.
func TestSlowPieces(t *testing.T) {
	t.Parallel()
	s := serve(t, false, echo)
	s.transport.Silence, s.transport.Header = 30*time.Millisecond, patience
	from, to := io.Pipe()
	go func() {
		for _, piece := range []string{"a", " layer"} {
			<-time.After(60 * time.Millisecond) // the pause itself is what is tested
			_, _ = io.WriteString(to, piece)
		}
		_ = to.Close()
	}()
	r := s.request(t, http.MethodPut, from)
	r.ContentLength = 7
	response, err := s.transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(response.Body); string(got) != "a layer" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_ = response.Body.Close()
}
