package registry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
	"berth.dev/berth/certs"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/proxy/upstream"
	"berth.dev/berth/token"
)

func TestRegistryFails(t *testing.T) {
	for name, test := range map[string]struct {
		arrange func(*world)
		status  int
		reason  string
		says    string
		// upstream is the status in the log, 0 where the registry gave none.
		upstream float64
	}{
		"down":                  {func(w *world) { w.registry.server.Close() }, 502, v1alpha1.ReasonUnreachable, "refuses connections", 0},
		"no such name":          {func(w *world) { w.connect("harbor", "https://no-such-name.invalid") }, 502, v1alpha1.ReasonUnreachable, "cannot be resolved", 0},
		"plain HTTP behind TLS": {func(w *world) { w.connect("harbor", "https"+strings.TrimPrefix(plain(w.t).URL, "http")) }, 502, v1alpha1.ReasonUnreachable, "does not speak TLS", 0},
		"hangs":                 {func(w *world) { w.registry.answer(hang(w.t)) }, 504, v1alpha1.ReasonUnreachable, "in time", 0},
		"another password":      {func(w *world) { w.registry.demand("another") }, 502, v1alpha1.ReasonCredentialRefused, "refuses the Connector's credential", 401},
		"forbidden":             {func(w *world) { w.registry.answer(answers(403)) }, 403, v1alpha1.ReasonRegistryDenied, "grant the account the repository", 403},
		"another authority":     {func(w *world) { w.trust(authority(t)) }, 502, v1alpha1.ReasonUnreachable, "certificate is not trusted", 0},
		"no credential Secret":  {func(w *world) { w.secrets.remove("credentials") }, 502, v1alpha1.ReasonSecretNotFound, "kubectl -n demo describe connector harbor", 0},
		"no authority Secret":   {func(w *world) { w.secrets.remove("ca") }, 502, v1alpha1.ReasonSecretNotFound, "describe connector", 0},
		"no certificate":        {func(w *world) { w.trust([]byte("none")) }, 502, v1alpha1.ReasonCertificateInvalid, "describe connector", 0},
		"Secret of a wrong type": {
			func(w *world) {
				w.secrets.put("credentials", corev1.SecretTypeOpaque, map[string][]byte{"username": []byte(username), "password": []byte(password)})
			}, 502, v1alpha1.ReasonSecretTypeWrong, "describe connector", 0,
		},
		"server error is the registry's own answer": {func(w *world) { w.registry.answer(answers(503)) }, 503, "", "", 503},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, upstream.Timeouts{Header: 100 * time.Millisecond, Handshake: time.Second})
			test.arrange(w)
			got := w.get(base+"test/a/manifests/v1", "demo")
			if got.StatusCode != test.status || !strings.Contains(got.text, test.says) || test.says != "" && got.code != CodeUnknown && got.code != CodeDenied {
				t.Errorf("answer: %d %s, want %d and %q", got.StatusCode, got.body, test.status, test.says)
			}
			if strings.Contains(got.body, "Secret '") {
				t.Errorf("the answer names the owner's Secret: %s", got.body)
			}
			if strings.Contains(got.body, "127.0.0.1:") && !strings.Contains(got.text, "registry '127.0.0.1:") {
				t.Errorf("an address stands in the answer: %s", got.body)
			}
			line := w.log.last(t)
			if reason, _ := line["reason"].(string); reason != test.reason {
				t.Errorf("reason: %q, want %q", reason, test.reason)
			}
			if status, _ := line["upstream_status"].(float64); status != test.upstream {
				t.Errorf("upstream status: %v, want %v", status, test.upstream)
			}
		})
	}
}

func plain(t testing.TB) *httptest.Server {
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return s
}

func answers(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// hang answers when the test is over.
func hang(t testing.TB) http.HandlerFunc {
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	return func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}
}

// authority returns a certificate that signs nothing here: httptest's is always the same.
func authority(t testing.TB) []byte {
	t.Helper()
	made, err := certs.NewAuthority("another", certs.Scope{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return certs.Authorities{made}.Bundle()
}

func TestPasswordRotation(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.registry.answer(answers(200))
	if got := w.get(base+"a/manifests/v1", "demo"); got.StatusCode != http.StatusOK {
		t.Fatalf("before: %d", got.StatusCode)
	}
	w.registry.seen()

	w.registry.demand("rotated")
	if got := w.get(base+"a/manifests/v1", "demo"); got.StatusCode != http.StatusBadGateway || len(w.registry.seen()) != 2 {
		t.Errorf("the same credential is tried for nothing else than /v2/: %d", got.StatusCode)
	}
	w.secrets.afterGet("credentials", func() { w.rotate("rotated") }) // while the request is on its way
	if got := w.get(base+"a/manifests/v1", "demo"); got.StatusCode != http.StatusOK || len(w.registry.seen()) != 1 {
		t.Errorf("a credential that changed meanwhile is tried, and the old one is not: %d", got.StatusCode)
	}
}

func TestAuthorityRotation(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.registry.answer(answers(200))
	for i, test := range []struct {
		authority []byte
		want      int
	}{{certificate(w.registry.server), 200}, {authority(t), 502}, {certificate(w.registry.server), 200}} {
		w.trust(test.authority)
		if got := w.get(base+"a/manifests/v1", "demo"); got.StatusCode != test.want {
			t.Errorf("authority %d: %d %s, want %d", i, got.StatusCode, got.text, test.want)
		}
	}
}

func TestClientGone(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	arrived, cancelled := make(chan struct{}), make(chan struct{})
	w.registry.answer(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(cancelled)
	})
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-arrived
		leave()
	}()
	response, err := w.front.Client().Do(w.request(http.MethodGet, base+"a/manifests/v1", w.token("demo")).WithContext(ctx))
	if err == nil { // our answer may overtake the end of the connection
		response.Body.Close()
	}
	select {
	case <-cancelled:
	case <-time.After(5 * time.Second):
		t.Fatal("the registry's request goes on without its client")
	}
	if line := w.log.last(t); line["reason"] != ReasonClientGone || line["status"] != float64(statusClientGone) {
		t.Errorf("log: %v", line)
	}
}

func TestBodyBreaksOff(t *testing.T) {
	for name, registry := range map[string]http.HandlerFunc{
		"closed": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("half"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"silent": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("half"))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, upstream.Timeouts{Silence: 50 * time.Millisecond})
			w.registry.answer(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Length", "8")
				registry(rw, r)
			})
			response, err := w.front.Client().Do(w.request(http.MethodGet, base+"a/blobs/"+sha256, w.token("demo")))
			if err == nil { // else it broke off before the header was sent
				defer response.Body.Close()
				if body, err := io.ReadAll(response.Body); err == nil {
					t.Errorf("the client believes that %q is whole", body)
				}
			}
			if !eventually(func() bool { return strings.Contains(w.log.String(), ReasonAborted) }) {
				t.Errorf("log: %s", w.log)
			}
		})
	}
}

func TestSlowLayerOutlivesTimeouts(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{Header: 100 * time.Millisecond, Silence: 100 * time.Millisecond})
	w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) {
		pace := time.NewTicker(25 * time.Millisecond)
		defer pace.Stop()
		for range 12 {
			_, _ = rw.Write([]byte("."))
			_ = http.NewResponseController(rw).Flush()
			<-pace.C
		}
	})
	if got := w.get(base+"a/blobs/"+sha256, "demo"); got.body != strings.Repeat(".", 12) {
		t.Errorf("body: %q", got.body)
	}
}

// TestClientStandsStill: a client that takes nothing is let go; one that only pauses between requests is not.
func TestClientStandsStill(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.options.Patience = 100 * time.Millisecond
	w.serve(w.options)
	w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("{}")) })
	for _, method := range []string{http.MethodGet, http.MethodHead} { // a HEAD's answer has no body that sets a deadline of its own
		if got := w.do(w.request(method, base+"a/manifests/v1", w.token("demo"))); got.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", method, got.StatusCode)
		}
		<-time.After(w.options.Patience * 3 / 2) // the pause itself is what is tested
	}
	if n := len(w.registry.seen()); n != 2 {
		t.Errorf("%d requests, want 2: the client had to ask again, since its connection broke", n)
	}

	gone := make(chan struct{})
	w.registry.answer(func(rw http.ResponseWriter, r *http.Request) {
		defer close(gone)
		for r.Context().Err() == nil {
			if _, err := rw.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	response, err := w.front.Client().Do(w.request(http.MethodGet, base+"a/blobs/"+sha256, w.token("demo")))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		response.Body.Close()
		t.Error("a client that takes nothing holds its request for ever")
	}
}

// TestMemory pulls a layer of 8 MiB and one of 256 MiB: whoever holds the larger
// one, or takes a new buffer for each piece, allocates 256 MiB, each time. (The race
// detector makes sync.Pool forget, so the bound is no tighter: without it, it is 1.5 MiB.)
func TestMemory(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	allocated := func(mebibytes int) uint64 {
		w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", strconv.Itoa(mebibytes<<20))
			for range mebibytes {
				_, _ = rw.Write(chunk)
			}
		})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		response, err := w.front.Client().Do(w.request(http.MethodGet, base+"a/blobs/"+sha256, w.token("demo")))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if n, err := io.Copy(io.Discard, response.Body); err != nil || n != int64(mebibytes)<<20 {
			t.Fatalf("%d bytes, %v", n, err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	allocated(1)
	for range 3 {
		small, large := allocated(8), allocated(256)
		t.Logf("allocated for 8 MiB: %d KiB, for 256 MiB: %d KiB", small>>10, large>>10)
		if large < small+(192<<20) {
			return
		}
	}
	t.Error("a layer of 256 MiB allocates that much more than one of 8 MiB")
}

func BenchmarkManifest(b *testing.B) {
	w := newWorld(b, upstream.Timeouts{})
	manifest := bytes.Repeat([]byte("m"), 2048)
	w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(manifest) })
	client, shown := w.front.Client(), w.token("demo")
	for name, target := range map[string]func() *http.Request{
		"berth": func() *http.Request { return w.request(http.MethodGet, base+"a/manifests/v1", shown) },
		"straight": func() *http.Request {
			r, _ := http.NewRequest(http.MethodGet, w.registry.server.URL+"/v2/a/manifests/v1", nil)
			r.SetBasicAuth(username, password)
			return r
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				response, err := client.Do(target())
				if err != nil || response.StatusCode != http.StatusOK {
					b.Fatal(err, response)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				w.registry.seen()
			}
		})
	}
}

// BenchmarkHandler is what Berth itself costs: no socket on either side.
func BenchmarkHandler(b *testing.B) {
	w := newWorld(b, upstream.Timeouts{})
	manifest := strings.Repeat("m", 2048)
	h := New(Options{
		Catalogue: w.catalogue, ClusterDomain: v1alpha1.ClusterDomain, Now: time.Now,
		Identity: identity.New(w.public.Load, w.namespaces, func() time.Time { return w.now }, token.AudiencePull, token.AudienceProxy),
		Upstream: stub(func(r *http.Request) *http.Response {
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"x"}}, Body: io.NopCloser(strings.NewReader(manifest)), Request: r}
		}),
	})
	r := httptest.NewRequest(http.MethodGet, base+"test/abc/manifests/v1", nil)
	r.SetBasicAuth("anyone", w.token("team"))
	b.ReportAllocs()
	for b.Loop() {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if rec.Code != http.StatusOK {
			b.Fatal(rec.Code, rec.Body)
		}
	}
}

func BenchmarkParsePath(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParsePath(base + "team/app/blobs/" + sha256); err != nil {
			b.Fatal(err)
		}
	}
}

type stub func(*http.Request) *http.Response

func (s stub) RoundTrip(_ *access.Connector, r *http.Request, _ ...bearer.Scope) (*http.Response, error) {
	return s(r), nil
}
