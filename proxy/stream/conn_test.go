package stream

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"
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
			j := NewBuffers().Below(conn)
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

// asked is a connection that has been sent much, and keeps what each read took.
type asked struct {
	net.Conn
	from  io.Reader
	sizes []int
}

func (a *asked) Read(p []byte) (int, error) {
	n, err := a.from.Read(p)
	a.sizes = append(a.sizes, n)
	return n, err
}

// someRecords are records of many sizes, and where each of them ends.
func someRecords(total int) (content []byte, ends []int) {
	sizes := rand.New(rand.NewPCG(1, 2))
	for len(content) < total {
		size := sizes.IntN(record + 256)
		content = append(binary.BigEndian.AppendUint16(append(content, 23, 3, 3), uint16(size)), random(size)...)
		ends = append(ends, len(content))
	}
	return content, ends
}

// TestReadsWithinRecords: while bytes come slowly, no read goes past the end of a record that it did not begin at.
func TestReadsWithinRecords(t *testing.T) {
	t.Parallel()
	content, ends := someRecords(stretch / 8)
	for name, from := range map[string]func(io.Reader) io.Reader{
		"all at once":    func(r io.Reader) io.Reader { return r },
		"byte by byte":   iotest.OneByteReader,
		"in halves":      iotest.HalfReader,
		"end with bytes": iotest.DataErrReader,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := &asked{from: from(bytes.NewReader(content))}
			var got bytes.Buffer
			if _, err := got.ReadFrom(inNoTime().Below(conn)); err != nil || !bytes.Equal(got.Bytes(), content) {
				t.Fatalf("%d bytes of %d came, %v", got.Len(), len(content), err)
			}
			at, next := 0, 0
			for _, size := range conn.sizes {
				begins := at < recordHeader || next > 0 && at < ends[next-1]+recordHeader
				if at += size; at > ends[next] && (!begins || size > firstRead) {
					t.Fatalf("a read of %d bytes goes %d past the end of record %d", size, at-ends[next], next)
				}
				for next < len(ends)-1 && at >= ends[next] {
					next++
				}
			}
		})
	}
}

// TestReadsMuchAtOnce: once bytes come fast, a read takes what it is offered.
func TestReadsMuchAtOnce(t *testing.T) {
	t.Parallel()
	content, _ := someRecords(2 * stretch)
	conn := &asked{from: bytes.NewReader(content)}
	below, buffer := inNoTime().Below(conn), make([]byte, 2*largeSize)
	for range 2 * stretch {
		if _, err := below.Read(buffer); err != nil {
			break
		}
	}
	if largest := slices.Max(conn.sizes); largest != len(buffer) {
		t.Errorf("the largest read took %d bytes of %d", largest, len(buffer))
	}
}

// TestClient: a body goes whole through the client's side of TLS, in writes of several records once it is fast.
func TestClient(t *testing.T) {
	t.Parallel()
	content := random(3 * stretch)
	var got []byte
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, _ = io.ReadAll(r.Body) }))
	defer server.Close()
	trust, large := server.Client().Transport.(*http.Transport).TLSClientConfig, 0
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		config := trust.Clone()
		config.ServerName = "example.com"
		return inNoTime().Client(countedConn{conn, &large}, config), nil
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if !bytes.Equal(got, content) {
		t.Errorf("%d bytes came, other than were sent", len(got))
	}
	if large == 0 {
		t.Error("no write had several records")
	}
}

// connected returns both ends of a connection.
func connected(t *testing.T) (near, far net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if near, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	if far, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return near, far
}

// TestReady: the kernel has room until it has none, and again once the far end has read; a deadline ends the wait.
func TestReady(t *testing.T) {
	t.Parallel()
	near, far := connected(t)
	k := kernelOf(near)
	written, full := int64(0), false
	for tries := 0; !full; tries++ { // what is full for a moment may have room again
		_ = near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		n, err := near.Write(make([]byte, 64<<20))
		written += int64(n)
		full = err != nil && errors.Is(k.ready(false), os.ErrDeadlineExceeded)
		if tries == 100 {
			t.Fatal("there is always room")
		}
	}
	_ = near.SetWriteDeadline(time.Now().Add(20 * time.Second))
	read := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, far, written)
		read <- err
	}()
	if err := errors.Join(k.ready(false), <-read); err != nil {
		t.Fatal(err)
	}
	if err := (*kernel)(nil).ready(false); err != nil {
		t.Errorf("of no connection: %v", err)
	}
	_ = near.Close()
	if err := k.ready(false); !errors.Is(err, net.ErrClosed) {
		t.Errorf("of one that was closed: %v", err)
	}
}

// TestLimit: the kernel takes little of what the far end does not read, unless it moves fast; and then little again.
func TestLimit(t *testing.T) {
	t.Parallel()
	near, _ := connected(t)
	k, piece := kernelOf(near), make([]byte, record)
	unsent := func() (n int) {
		t.Helper()
		var err error
		if failed := k.raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQNSD) }); failed != nil || err != nil {
			t.Fatal(failed, err)
		}
		return n
	}
	// fill writes pieces until there is no room for any, and fails where one had to wait that there was said to be room for.
	fill := func(fast bool) {
		t.Helper()
		for {
			_ = near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			if k.ready(fast) != nil {
				return
			}
			n, err := near.Write(piece)
			if fast && err != nil {
				return
			} else if err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
		}
	}
	fill(false)
	if n := unsent(); n > littleUnsent {
		t.Errorf("slow: the kernel holds %d bytes, want at most %d", n, littleUnsent)
	}
	fill(true)
	if n := unsent(); n <= 2*littleUnsent { // it takes a packet more than it is told to
		t.Errorf("fast: the kernel holds %d bytes, want more than %d", n, 2*littleUnsent)
	}
	if err := k.ready(false); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("slow again: there is room, %v", err)
	}
}

// TestGone: a connection is gone once its far end has closed it, whatever is left to read, and not because a signal came.
func TestGone(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	far, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	over := tls.Server(NewBuffers().Below(near), &tls.Config{MinVersion: tls.VersionTLS12})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	us, ended := unix.Gettid(), make(chan struct{})
	var signals sync.WaitGroup
	signals.Go(func() {
		for {
			select {
			case <-ended:
				return
			default:
				_ = unix.Tgkill(unix.Getpid(), us, unix.SIGURG) // Go's own, which it ignores
			}
		}
	})
	for range 5_000 {
		if Gone(over) {
			t.Error("it is gone by a signal")
			break
		}
	}
	close(ended)
	signals.Wait()
	_, _ = io.WriteString(far, "more")
	if Gone(over) {
		t.Error("it is gone by what it says")
	}
	_ = far.Close()
	for end := time.Now().Add(10 * time.Second); !Gone(over); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("it stays")
		}
	}
	if Gone(&written{}) {
		t.Error("what the kernel does not know is gone")
	}
}
