package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
	"berth.dev/berth/proxy/credential"
)

// once is a body that can be read one time, as a client's.
type once struct {
	io.Reader
	closed atomic.Bool
}

func (o *once) Close() error { o.closed.Store(true); return nil }

func upload(t testing.TB, body string) (*http.Request, *once) {
	t.Helper()
	from := &once{Reader: strings.NewReader(body)}
	r := request(t, http.MethodPut, from)
	r.ContentLength = int64(len(body))
	return r, from
}

// TestPushAfterRefusal: a registry that refuses before it has read costs nothing, and one that refuses after it has read ends the request.
func TestPushAfterRefusal(t *testing.T) {
	t.Parallel()
	const layer = "a layer"
	for name, test := range map[string]struct {
		look func(http.ResponseWriter, *http.Request)
		want string
	}{
		"refused at once":                  {nil, "OK"},
		"refused, and the connection kept": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "keep-alive") }, "OK"},
		"refused after the body was read":  {func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) }, v1alpha1.ReasonRegistryDenied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, c, held := newTokenRegistry(t)
			u := registries(held)
			push := bearer.Repository("a", bearer.Pull, bearer.Push)
			if got := ask(t, u, c, push); got != "OK" {
				t.Fatal(got)
			}
			f.revoke()
			f.withBody = func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Expect") != "100-continue" {
					t.Errorf("Expect: %q", r.Header.Get("Expect"))
				}
				if test.look != nil && r.Header.Get("Authorization") == "Bearer token-1" {
					test.look(w, r)
				}
			}
			f.handler = func(_ http.ResponseWriter, r *http.Request) {
				if got, err := io.ReadAll(r.Body); string(got) != layer || err != nil || r.ContentLength != int64(len(layer)) {
					t.Errorf("the registry got %q of %d, %v", got, r.ContentLength, err)
				}
			}
			r, body := upload(t, layer)
			if got := outcome(u.RoundTrip(c, r, push)); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if body.closed.Load() {
				t.Error("the client's body was closed")
			}
			if r, _ = upload(t, layer); outcome(u.RoundTrip(c, r, push)) != "OK" {
				t.Error("the next one goes with the refused token")
			}
		})
	}
}

// raw serves connections by hand, and returns its address.
func raw(t *testing.T, serve func(net.Conn, *http.Request)) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				from := bufio.NewReader(conn)
				for {
					r, err := http.ReadRequest(from)
					if err != nil {
						return
					}
					serve(conn, r)
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// TestRefusalOnAConnectionThatIsKept: http.Transport would send the body after all, once the answer is there.
func TestRefusalOnAConnectionThatIsKept(t *testing.T) {
	t.Parallel()
	var puts atomic.Int32
	held := &secrets{}
	rotate(held, "1", "old")
	address := raw(t, func(conn net.Conn, r *http.Request) {
		_, password, _ := r.BasicAuth()
		switch {
		case r.Method == http.MethodPut && password == "old":
			puts.Add(1)
			rotate(held, "2", "new")
			_, _ = io.WriteString(conn, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
		case r.Method == http.MethodPut:
			puts.Add(1)
			_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
			got, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(got), got)
		default:
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	c := connector(t, address, &v1alpha1.ConnectorAuth{Name: v1alpha1.AuthBasic, SecretRef: v1alpha1.SecretReference{Name: "login"}})
	c.Spec.CACertSecretRef = nil
	r, _ := upload(t, "a layer")
	response, err := registries(held).RoundTrip(c, r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if string(got) != "a layer" || err != nil || puts.Load() != 2 {
		t.Errorf("the registry got %q, %v, in %d attempts", got, err, puts.Load())
	}
}

// TestRegistryStopsReading: the request ends when the registry takes nothing of its body for too long.
func TestRegistryStopsReading(t *testing.T) {
	t.Parallel()
	held := &secrets{}
	rotate(held, "1", "x")
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	address := raw(t, func(conn net.Conn, r *http.Request) {
		if r.Method == http.MethodPut {
			_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
			<-over
		}
	})
	c := connector(t, address, &v1alpha1.ConnectorAuth{Name: v1alpha1.AuthBasic, SecretRef: v1alpha1.SecretReference{Name: "login"}})
	c.Spec.CACertSecretRef = nil
	u := New(credential.NewSource(held), &net.Dialer{}, Timeouts{Silence: 100 * time.Millisecond})
	r := request(t, http.MethodPut, io.NopCloser(endless{}))
	r.ContentLength = 1 << 40
	_, err := u.RoundTrip(c, r)
	if far, ok := errors.AsType[*Error](err); !ok || !far.Timeout() || far.Reason != v1alpha1.ReasonUnreachable {
		t.Errorf("%v", err)
	}
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// slow is a client that takes its time for each piece.
type slow struct {
	io.Reader
	pace time.Duration
}

func (s slow) Read(p []byte) (int, error) {
	<-time.After(s.pace) // the pause itself is what is tested
	return s.Reader.Read(p)
}

func TestSlowClientMayPush(t *testing.T) {
	t.Parallel()
	f, c, held := newTokenRegistry(t)
	f.handler = func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }
	u := New(credential.NewSource(held), &net.Dialer{}, Timeouts{Silence: 50 * time.Millisecond, Header: 10 * time.Second})
	for name, length := range map[string]int64{"of known length": 4, "in chunks": -1} {
		r := request(t, http.MethodPatch, io.NopCloser(slow{iotest.OneByteReader(strings.NewReader("slow")), 80 * time.Millisecond}))
		r.ContentLength = length
		response, err := u.RoundTrip(c, r, bearer.Repository("a", bearer.Push))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if string(got) != "slow" || err != nil {
			t.Errorf("%s: the registry got %q, %v", name, got, err)
		}
	}
}

// TestClientThatFails: what ends the client's body ends the request.
func TestClientThatFails(t *testing.T) {
	t.Parallel()
	f, c, held := newTokenRegistry(t)
	f.handler = func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) }
	r := request(t, http.MethodPatch, io.NopCloser(io.MultiReader(strings.NewReader("begun"), iotest.ErrReader(io.ErrUnexpectedEOF))))
	r.ContentLength = 100
	if response, err := registries(held).RoundTrip(c, r, bearer.Repository("a", bearer.Push)); err == nil {
		finish(response)
		t.Errorf("status %d for half a body", response.StatusCode)
	}
}

func TestNoBodyExpectsNothing(t *testing.T) {
	t.Parallel()
	f, c, held := newTokenRegistry(t)
	f.handler = func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Expect") != "" || r.ContentLength != 0 || len(r.TransferEncoding) != 0 {
			t.Errorf("Expect %q, %d, %v", r.Header.Get("Expect"), r.ContentLength, r.TransferEncoding)
		}
	}
	r := request(t, http.MethodPost, http.NoBody)
	r.Header.Set("Expect", "100-continue")
	if got := outcome(registries(held).RoundTrip(c, r, bearer.Repository("a", bearer.Push))); got != "OK" {
		t.Error(got)
	}
}
