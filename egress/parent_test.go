package egress_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/egress"
)

const parentSecret = "parent-password"

// parentProxy is a listener on loopback that notes what it is asked, and answers as it is told.
type parentProxy struct {
	net.Listener
	mu    sync.Mutex
	asked []string
}

func newParentProxy(t *testing.T, answer func(net.Conn)) *parentProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &parentProxy{Listener: listener}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			go func() {
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				p.mu.Lock()
				p.asked = append(p.asked, r.Method+" "+r.RequestURI+" "+r.Header.Get("Proxy-Authorization"))
				p.mu.Unlock()
				answer(conn)
			}()
		}
	}()
	return p
}

func (p *parentProxy) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// way leads by the parent, and resolves by a table.
func (p *parentProxy) way(t *testing.T, r *recorder) *egress.Way {
	t.Helper()
	parent, err := egress.NewParent("http://"+p.Addr().String(), []string{"direct.example.com", "10.0.0.0/8", ".svc"}, func() (string, error) { return "berth:" + parentSecret, nil })
	if err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == p.Addr().String() {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
		return r.dial(ctx, network, address)
	}
	return &egress.Way{Resolver: r, Check: egress.NewDialer().Check, Dial: dial, Parent: func() *egress.Parent { return parent }}
}

func says(text string) func(net.Conn) {
	return func(conn net.Conn) { _, _ = io.WriteString(conn, text) }
}

func TestParentTunnels(t *testing.T) {
	t.Parallel()
	p := newParentProxy(t, says("HTTP/1.1 200 fine\r\nContent-Length: 3\r\n\r\nhello")) // bytes behind the header are the target's
	conn, err := p.way(t, &recorder{}).Open(t.Context(), policy(t, egress.Open, nil, nil), egress.Target{Host: "far.example.com", Port: "443"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	want := []string{"CONNECT far.example.com:443 Basic " + base64.StdEncoding.EncodeToString([]byte("berth:"+parentSecret))}
	if diff := cmp.Diff(want, p.seen()); diff != "" {
		t.Errorf("the parent was asked (-want +got):\n%s", diff)
	}
}

func TestParentFails(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(net.Conn){
		"407":            says("HTTP/1.1 407 no\r\nProxy-Authenticate: Basic realm=\"" + parentSecret + "\"\r\n\r\n"),
		"502":            says("HTTP/1.1 502 no\r\nContent-Length: 15\r\n\r\n" + parentSecret),
		"100 before":     says("HTTP/1.1 100 go on\r\n\r\nHTTP/1.1 200 fine\r\n\r\n"),
		"two headers":    says("HTTP/1.1 204 no\r\n\r\nHTTP/1.1 200 fine\r\n\r\n"),
		"no HTTP":        says("SSH-2.0-" + parentSecret + "\r\n\r\n"),
		"closes":         func(conn net.Conn) { _ = conn.Close() },
		"closes halfway": func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 200 fi"); _ = conn.Close() },
		"without end":    says("HTTP/1.1 200 fine\r\nX: " + strings.Repeat("x", 1<<20)),
		"hangs":          func(net.Conn) {},
		"hangs halfway":  says("HTTP/1.1 200 fine\r\nX: "),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			conn, err := newParentProxy(t, answer).way(t, &recorder{}).Open(ctx, policy(t, egress.Open, nil, nil), egress.Target{Host: "far.example.com", Port: "443"})
			if !errors.Is(err, egress.ErrParent) || conn != nil {
				t.Fatalf("Open returns %v, %v", conn, err)
			}
			if strings.Contains(err.Error(), parentSecret) {
				t.Errorf("the error says what the parent said: %v", err)
			}
		})
	}
}

// The policy holds by the parent, too, as far as names and what resolves here go.
func TestParentPolicy(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		policy *egress.Policy
		host   string
		err    error
		asked  bool   // the parent
		dialed string // or this
	}{
		"a name that does not resolve here": {policy(t, egress.Open, nil, nil), "unknown.example.com", nil, true, ""},
		"one that does":                     {policy(t, egress.Public, nil, nil), "public.example.com", nil, true, ""},
		"a private address":                 {policy(t, egress.Public, nil, nil), "mixed.example.com", egress.ErrPolicy, false, ""},
		"the metadata service":              {policy(t, egress.Open, nil, nil), "169.254.169.254", egress.ErrForbidden, false, ""},
		"a name of it":                      {policy(t, egress.Open, nil, nil), "metadata.example.com", egress.ErrForbidden, false, ""},
		"loopback":                          {policy(t, egress.Open, nil, nil), "127.0.0.1", egress.ErrForbidden, false, ""},
		"localhost":                         {policy(t, egress.Open, nil, nil), "localhost", egress.ErrForbidden, false, ""},
		"a name that is denied":             {policy(t, egress.Open, nil, []string{"*.example.com"}), "unknown.example.com", egress.ErrPolicy, false, ""},
		"an address that is denied":         {policy(t, egress.Open, nil, []string{"192.0.9.0/24"}), "192.0.9.1", egress.ErrPolicy, false, ""},
		"connectors alone":                  {policy(t, egress.Connectors, nil, nil), "unknown.example.com", egress.ErrPolicy, false, ""},
		"connectors and addresses":          {policy(t, egress.Connectors, []string{"192.0.9.0/24"}, nil), "unknown.example.com", egress.ErrPolicy, false, ""},
		"connectors and a name":             {policy(t, egress.Connectors, []string{"unknown.example.com"}, nil), "unknown.example.com", nil, true, ""},
		"without the parent":                {policy(t, egress.Open, nil, nil), "direct.example.com", nil, false, "10.1.2.3:443"},
		"a network without it":              {policy(t, egress.Open, nil, nil), "10.4.5.6", nil, false, "10.4.5.6:443"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newParentProxy(t, says("HTTP/1.1 200 fine\r\n\r\n"))
			r := &recorder{names: map[string][][]string{
				"public.example.com.": {{"198.41.0.4"}}, "mixed.example.com.": {{"198.41.0.4", "10.1.1.1"}}, "metadata.example.com.": {{"169.254.169.254"}},
				"direct.example.com.": {{"10.1.2.3"}}, "localhost.": {{"127.0.0.1"}},
			}}
			conn, err := p.way(t, r).Open(t.Context(), tc.policy, egress.Target{Host: tc.host, Port: "443"})
			if conn != nil {
				_ = conn.Close()
			}
			if !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
				t.Errorf("Open returns %v, want %v", err, tc.err)
			}
			if asked := len(p.seen()) > 0; asked != tc.asked || strings.Join(r.dialled, " ") != tc.dialed {
				t.Errorf("the parent was asked: %t; dialled: %q", asked, r.dialled)
			}
		})
	}
}

// A Connector's registry is reached by the parent too, and straight where NO_PROXY says so.
func TestParentOfConnectors(t *testing.T) {
	t.Parallel()
	p := newParentProxy(t, says("HTTP/1.1 200 fine\r\n\r\n"))
	r := &recorder{}
	w := p.way(t, r)
	for address, want := range map[string]error{
		"harbor.example.com:443": nil, "registry.shop.svc:5000": nil, "169.254.169.254:80": egress.ErrForbidden,
	} {
		conn, err := w.DialContext(t.Context(), "tcp", address)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
	if diff := cmp.Diff([]string{"registry.shop.svc:5000"}, r.dialled); diff != "" || len(p.seen()) != 1 {
		t.Errorf("dialled (-want +got):\n%s\nand by the parent: %d", diff, len(p.seen()))
	}
}

func TestNewParentRefuses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "proxy:3128", "http://proxy", "socks5://proxy:1080", "http://user:" + parentSecret + "@proxy:3128", "http://proxy:3128/path", "http://proxy:3128?a=b", "http://:3128", "http://pro xy:1"} {
		if _, err := egress.NewParent(address, nil, nil); err == nil || strings.Contains(err.Error(), parentSecret) {
			t.Errorf("NewParent(%q): %v", address, err)
		}
	}
}
