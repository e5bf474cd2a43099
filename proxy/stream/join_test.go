package stream

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// written is a connection that keeps what each write had.
type written struct {
	net.Conn
	all [][]byte
	err error
}

func (w *written) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	w.all = append(w.all, bytes.Clone(p))
	return len(p), nil
}

// TestJoin: what is written between begin and end goes out as one, and in its order whatever its size.
func TestJoin(t *testing.T) {
	t.Parallel()
	content := random(4 * joinedSize)
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		sizes []int
		want  []int
		err   error
	}{
		"records":            {sizes: []int{5, record, record, record, record}, want: []int{5 + 4*record}},
		"nothing":            {want: []int{0}},
		"more than is held":  {sizes: []int{joinedSize - 1, 2, record}, want: []int{joinedSize - 1, 2 + record}},
		"one that is larger": {sizes: []int{3, joinedSize + 1, 4}, want: []int{3, joinedSize + 1, 4}},
		"to nobody":          {sizes: []int{record}, err: broken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := &written{err: tc.err}
			j := NewBuffers().Join(conn)
			j.begin()
			rest := content
			for _, size := range tc.sizes {
				if n, err := j.Write(rest[:size]); n != size || err != nil {
					t.Fatalf("%d, %v", n, err)
				}
				rest = rest[size:]
			}
			if err := j.end(); !errors.Is(err, tc.err) {
				t.Fatalf("%v, want %v", err, tc.err)
			}
			if tc.err != nil {
				return
			}
			var sizes []int
			for _, one := range conn.all {
				sizes = append(sizes, len(one))
			}
			if len(tc.sizes) > 0 && len(sizes) != len(tc.want) {
				t.Fatalf("writes of %v, want %v", sizes, tc.want)
			}
			if got := bytes.Join(conn.all, nil); !bytes.Equal(got, content[:len(content)-len(rest)]) {
				t.Errorf("%d other bytes than were written", len(got))
			}
			if _, err := j.Write([]byte("after")); err != nil || string(conn.all[len(conn.all)-1]) != "after" {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

// counting is a listener that counts the writes of its connections that are larger than a record.
type counting struct {
	net.Listener
	large *int
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	return countedConn{conn, c.large}, err
}

type countedConn struct {
	net.Conn
	large *int
}

func (c countedConn) Write(p []byte) (int, error) {
	if len(p) > 2*record {
		*c.large++
	}
	return c.Conn.Write(p)
}

// TestJoinedOverTLS: a large body comes whole over TLS, in writes of several records over HTTP/1, and as ever over HTTP/2.
func TestJoinedOverTLS(t *testing.T) {
	t.Parallel()
	content := random(2 << 20)
	for name, http2 := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			large := 0
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := NewResponse(w, r, time.Minute)
				for rest := content; len(rest) > 0; rest = rest[min(largeSize, len(rest)):] {
					if _, err := answer.Write(rest[:min(largeSize, len(rest))]); err != nil {
						t.Error(err)
						return
					}
				}
			}))
			server.EnableHTTP2 = http2
			server.Config.ConnContext = ConnContext
			server.Listener = NewBuffers().Listen(counting{server.Listener, &large})
			server.StartTLS()
			defer server.Close()
			response, err := server.Client().Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			var got bytes.Buffer
			if _, err := got.ReadFrom(response.Body); err != nil || !bytes.Equal(got.Bytes(), content) || response.ProtoMajor == 2 != http2 {
				t.Errorf("%s: %d bytes, %v", response.Proto, got.Len(), err)
			}
			server.Close()
			if joined := large > 0; joined == http2 {
				t.Errorf("%d writes of several records", large)
			}
		})
	}
}
