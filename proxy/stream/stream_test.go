package stream_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/proxy/stream"
)

// say sends text to a server with the handler, and returns its answer and whether the connection ends with it.
func say(t *testing.T, text string, patience time.Duration, handle func(*stream.Response, *stream.Body)) (*http.Response, string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		response := stream.NewResponse(w, r, patience)
		body := stream.NewBody(r.Body, response.Control, patience)
		defer body.Finish()
		response.Body = body
		handle(response, body)
	}))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(response.Body)
	return response, string(content)
}

const head = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"

func TestAWholeBody(t *testing.T) {
	t.Parallel()
	response, content := say(t, head+"hello", time.Minute, func(w *stream.Response, b *stream.Body) {
		got, err := io.ReadAll(b)
		if err != nil || b.Broken() != nil || !b.Whole() || b.Bytes() != 5 {
			t.Errorf("%v, broken %v, whole %t, %d bytes", err, b.Broken(), b.Whole(), b.Bytes())
		}
		w.WriteHeader(http.StatusEarlyHints) // stops here
		_, _ = w.Write(got)
		if w.Status != http.StatusOK || w.Bytes != 5 {
			t.Errorf("status %d, %d bytes", w.Status, w.Bytes)
		}
	})
	if response.StatusCode != http.StatusOK || response.Close || content != "hello" {
		t.Errorf("%d, close %t, '%s'", response.StatusCode, response.Close, content)
	}
}

// A client that stands still is let go, and the rest of what it sends is not taken for the next request.
func TestAClientThatStandsStill(t *testing.T) {
	t.Parallel()
	response, _ := say(t, head+"he", 20*time.Millisecond, func(w *stream.Response, b *stream.Body) {
		if _, err := io.ReadAll(b); !stream.Stalled(err) || !stream.Stalled(b.Broken()) {
			t.Errorf("%v, broken %v", err, b.Broken())
		}
		w.WriteHeader(http.StatusRequestTimeout)
	})
	if response.StatusCode != http.StatusRequestTimeout || !response.Close {
		t.Errorf("%d, close %t", response.StatusCode, response.Close)
	}
}

func TestABodyThatNobodyWants(t *testing.T) {
	t.Parallel()
	response, _ := say(t, head, time.Minute, func(w *stream.Response, b *stream.Body) {
		w.WriteHeader(http.StatusForbidden)
		b.Finish()
		if _, err := b.Read(make([]byte, 1)); err == nil {
			t.Error("it is read after its end")
		}
	})
	if response.StatusCode != http.StatusForbidden || !response.Close {
		t.Errorf("%d, close %t", response.StatusCode, response.Close)
	}
}

func TestBuffersAreUsedAgain(t *testing.T) {
	t.Parallel()
	buffers := stream.NewBuffers()
	got := buffers.Get()
	copy(got, strings.Repeat("x", len(got)))
	buffers.Put(got)
	if len(buffers.Get()) != stream.BufferSize {
		t.Error("a buffer of another size")
	}
}

// breaking is a body that ends the context of its request before it says why it breaks, as net/http's server has it.
type breaking struct {
	end  context.CancelFunc
	told chan struct{}
}

func (b breaking) Read([]byte) (int, error) {
	b.end()
	<-b.told
	return 0, io.ErrUnexpectedEOF
}

func (breaking) Close() error { return nil }

// TestFailure: that the context has ended does not hide that the body broke.
func TestFailure(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan struct{})
	b := stream.NewBody(breaking{cancel, told}, http.NewResponseController(httptest.NewRecorder()), time.Minute)
	if err := b.Failure(ctx.Err() != nil); err != nil {
		t.Errorf("before it was read: %v", err)
	}
	go func() { _, _ = b.Read(make([]byte, 1)) }()
	<-ctx.Done()
	time.AfterFunc(20*time.Millisecond, func() { close(told) })
	if err := b.Failure(ctx.Err() != nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the body broke: %v", err)
	}
}
