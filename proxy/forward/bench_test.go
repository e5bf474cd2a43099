package forward

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"berth.dev/berth/access"
	"berth.dev/berth/bearer"
	"berth.dev/berth/egress"
)

// instant is an Upstream that answers by itself, so that what is measured is the proxy.
type instant struct{}

func (i instant) RoundTrip(*access.Connector, *http.Request, ...bearer.Scope) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, ContentLength: 0}, nil
}

func (i instant) Pass(c *access.Connector, r *http.Request) (*http.Response, error) {
	return i.RoundTrip(c, r)
}

// BenchmarkInterceptedRequest is a GET within a tunnel that stands, without the way to the registry.
func BenchmarkInterceptedRequest(b *testing.B) {
	w := newWorld(b, func(o *Options) { o.Upstream = instant{} })
	client := w.client("demo", func(t *http.Transport) { t.MaxIdleConnsPerHost = 64 })
	w.log.discard()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			response, err := client.Get("https://" + harborHost + "/v2/test/abc/manifests/v1")
			if err != nil {
				b.Error(err)
				return
			}
			_ = response.Body.Close()
		}
	})
}

// BenchmarkInterceptedConnection is CONNECT, handshake and one request, with a session that is resumed or not.
func BenchmarkInterceptedConnection(b *testing.B) {
	w := newWorld(b, func(o *Options) { o.Upstream = instant{} })
	w.log.discard()
	for name, sessions := range map[string]tls.ClientSessionCache{"full": nil, "resumed": tls.NewLRUClientSessionCache(8)} {
		b.Run(name, func(b *testing.B) {
			client := w.client("demo", func(t *http.Transport) {
				t.DisableKeepAlives = true
				t.TLSClientConfig.ClientSessionCache = sessions
			})
			b.ReportAllocs()
			for b.Loop() {
				response, err := client.Get("https://" + harborHost + "/v2/")
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
		})
	}
}

// BenchmarkInterceptedAdmit is what a request costs before it is sent on: token, host, Connectors, path, rules.
func BenchmarkInterceptedAdmit(b *testing.B) {
	w := newWorld(b)
	r, _ := http.NewRequestWithContext(b.Context(), http.MethodGet, "https://"+harborHost+"/v2/test/abc/manifests/v1", nil)
	caller, err := w.options.Identity.Verify(w.token("demo"))
	if err != nil {
		b.Fatal(err)
	}
	v := &visit{Proxy: w.proxy, request: r, token: w.token("demo"), user: "berth", caller: caller, scheme: schemeHTTPS, target: egress.Target{Host: harborHost, Port: "443"}, origin: access.Origin(schemeHTTPS, harborHost, "443")}
	b.ReportAllocs()
	for b.Loop() {
		x := newExchange(v, nil, r)
		if no := x.admit(); no != nil {
			b.Fatal(no.message)
		}
		w.proxy.flights.give(x.caller.Namespace)
	}
}

// BenchmarkTokenCheck is the look at a token that was verified before.
func BenchmarkTokenCheck(b *testing.B) {
	w := newWorld(b)
	raw := w.token("demo")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.options.Identity.Verify(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// tcp returns the two ends of a connection.
func tcp(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialled, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = dialled.Close(), accepted.Close() })
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

// BenchmarkTunnel is 64 MiB through a blind tunnel, and beside it through io.Copy alone, which the kernel splices.
func BenchmarkTunnel(b *testing.B) {
	const size = 64 << 20
	for name, carry := range map[string]func(to, from *net.TCPConn){
		"berth": func(to, from *net.TCPConn) {
			t := &tunnel{client: from, far: to, silence: time.Minute}
			t.touch()
			_ = t.carry(to, from, &t.sent)
		},
		"relay": func(to, from *net.TCPConn) { _, _ = io.Copy(to, from) },
	} {
		b.Run(name, func(b *testing.B) {
			source, in := tcp(b)
			out, sink := tcp(b)
			go carry(out, in)
			block := make([]byte, 1<<20)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				go func() {
					for range size / len(block) {
						_, _ = source.Write(block)
					}
				}()
				if _, err := io.CopyN(io.Discard, sink, size); err != nil {
					b.Fatal(err)
				}
			}
			_ = source.Close()
		})
	}
}

// BenchmarkIdleTunnels is what a tunnel at rest holds of memory, both of its ends outside of the proxy left out.
func BenchmarkIdleTunnels(b *testing.B) {
	w := newWorld(b)
	const tunnels = 500
	b.ReportMetric(0, "ns/op")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = listener.Close() })
	go func() {
		var kept []net.Conn // at the far end nothing else is held
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			kept = append(kept, conn) //nolint:staticcheck // they must not be closed
		}
	}()
	w.net.to["203.0.115.2:443"] = listener.Addr().String()
	for b.Loop() {
		before := held(b)
		standing := make([]*tunnelled, 0, tunnels)
		for range tunnels {
			status, c := w.dial("demo", evilAt)
			if status != 200 {
				b.Fatal(status)
			}
			c.reader, c.response = nil, nil
			standing = append(standing, c)
		}
		b.ReportMetric(float64(held(b)-before)/tunnels, "B/tunnel")
		for _, c := range standing {
			_ = c.Close()
		}
	}
}

// held is the memory that goroutines and objects hold.
func held(b *testing.B) uint64 {
	b.Helper()
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
