package registry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"berth.dev/berth/proxy/upstream"
)

// BenchmarkPull and BenchmarkPush show that nothing is allocated for each piece of a body: 256 MiB take as many
// allocations as 1 MiB. Both ends are over TLS on loopback.
func BenchmarkPull(b *testing.B) {
	w := newWorld(b, upstream.Timeouts{})
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	for _, mebibytes := range []int{1, 256} {
		w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", strconv.Itoa(mebibytes<<20))
			for range mebibytes {
				_, _ = rw.Write(chunk)
			}
		})
		b.Run(fmt.Sprintf("%dMiB", mebibytes), func(b *testing.B) {
			client, shown := w.front.Client(), w.token("demo")
			b.SetBytes(int64(mebibytes) << 20)
			b.ReportAllocs()
			for b.Loop() {
				response, err := client.Do(w.request(http.MethodGet, base+"a/blobs/"+sha256, shown))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, response.Body); err != nil || n != int64(mebibytes)<<20 {
					b.Fatal(n, err)
				}
				_ = response.Body.Close()
				w.registry.seen()
			}
		})
	}
}

func BenchmarkPush(b *testing.B) {
	w := newWorld(b, upstream.Timeouts{})
	w.registry.answer(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.WriteHeader(http.StatusAccepted)
	})
	for _, mebibytes := range []int{1, 256} {
		b.Run(fmt.Sprintf("%dMiB", mebibytes), func(b *testing.B) {
			client, shown := w.front.Client(), w.token("demo", forProxies)
			b.SetBytes(int64(mebibytes) << 20)
			b.ReportAllocs()
			for b.Loop() {
				r := w.request(http.MethodPatch, base+"a/blobs/uploads/u1", shown)
				r.Body, r.ContentLength = io.NopCloser(io.LimitReader(zeros{}, int64(mebibytes)<<20)), int64(mebibytes)<<20
				response, err := client.Do(r)
				if err != nil || response.StatusCode != http.StatusAccepted {
					b.Fatal(response, err)
				}
				_ = response.Body.Close()
				w.registry.seen()
			}
		})
	}
}

// zeros is a body without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
