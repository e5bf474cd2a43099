package upstream

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"syscall"
	"testing"
	"time"

	"berth.dev/berth/access"
	"berth.dev/berth/proxy/credential"
)

// layer is a large body.
const layer = 64 << 20

func serveLayer(w http.ResponseWriter, r *http.Request) {
	if user, _, _ := r.BasicAuth(); user != "robot" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(layer))
	chunk := make([]byte, 256<<10)
	for sent := 0; sent < layer; sent += len(chunk) {
		_, _ = w.Write(chunk)
	}
}

// pool is a BufferPool that always has the same buffer.
type pool []byte

func (p pool) Get() []byte { return p }
func (pool) Put([]byte)    {}

type tripper struct {
	*Registries
	connector *access.Connector
}

func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.Registries.RoundTrip(t.connector, r)
}

// BenchmarkLargeGet is a layer from a registry over TLS, through a reverse proxy with a plain front: Berth's way
// there, with buffers of some sizes, beside a bare http.Transport that adds the same header.
func BenchmarkLargeGet(b *testing.B) {
	server, c, held := start(b, serveLayer)
	to, _ := url.Parse(server.URL)
	bare := http.DefaultTransport.(*http.Transport).Clone() //nolint:forbidigo // the peer
	bare.TLSClientConfig = &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	bare.Proxy = nil
	bare.ForceAttemptHTTP2 = false
	u := tripper{New(credential.NewSource(held), &net.Dialer{}, Timeouts{}), c}
	for _, test := range []struct {
		name   string
		via    http.RoundTripper
		buffer int
	}{
		{"bare", bare, 32 << 10},
		{"berth", u, 32 << 10},
		{"berth-copy64k", u, 64 << 10},
	} {
		b.Run(test.name, func(b *testing.B) {
			front := httptest.NewServer(&httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) {
					r.SetURL(to)
					r.Out.SetBasicAuth("robot", "hunter2")
				},
				Transport: test.via, BufferPool: pool(make([]byte, test.buffer)),
			})
			defer front.Close()
			b.SetBytes(layer)
			b.ReportAllocs()
			begun := processor(b)
			defer func() { b.ReportMetric((processor(b)-begun).Seconds()/float64(b.N)/layer*(1<<30), "cpu-s/GiB") }()
			for b.Loop() {
				response, err := front.Client().Get(front.URL + "/v2/a/blobs/x")
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, response.Body); n != layer || err != nil {
					b.Fatalf("%d bytes, %v", n, err)
				}
				_ = response.Body.Close()
			}
		})
	}
}

// processor is the time that this process has spent on processors: client, proxy and registry, and no other's load.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
