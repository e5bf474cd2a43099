package registry

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/proxy/upstream"
	"berth.dev/berth/token"
)

func TestPull(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	image, err := random.Image(300<<10, 3)
	if err != nil {
		t.Fatal(err)
	}
	straight, _ := name.ParseReference(host(w.registry.server) + "/test/abc:v1")
	if err := remote.Write(straight, image, remote.WithTransport(w.registry.server.Client().Transport), remote.WithAuth(&authn.Basic{Username: username, Password: password})); err != nil {
		t.Fatal(err)
	}
	w.registry.seen()

	for named, auth := range map[string]authn.Authenticator{
		"basic":  &authn.Basic{Username: "anyone", Password: w.token("team")},
		"bearer": &authn.Bearer{Token: w.token("team")},
	} {
		t.Run(named, func(t *testing.T) {
			through, err := name.ParseReference(host(w.front) + "/namespaces/demo/connectors/harbor/test/abc:v1")
			if err != nil {
				t.Fatal(err)
			}
			options := []remote.Option{remote.WithTransport(w.front.Client().Transport), remote.WithAuth(auth)}
			pulled, err := remote.Image(through, options...)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(pulled); err != nil {
				t.Error(err)
			}
			want, _ := image.Digest()
			if got, _ := pulled.Digest(); got != want {
				t.Errorf("digest: %s, want %s", got, want)
			}
			tags, err := remote.List(through.Context(), options...)
			if diff := cmp.Diff([]string{"v1"}, tags); err != nil || diff != "" {
				t.Errorf("tags: %v (-want +got)\n%s", err, diff)
			}
		})
	}
	line := w.log.last(t)
	delete(line, "time")
	delete(line, "duration_ms")
	delete(line, "bytes_out")
	want := map[string]any{
		"level": "INFO", "msg": "registry request", "method": "GET", "source": "127.0.0.1", "namespace": "team", "connector": "demo/harbor",
		"action": "pull", "repository": "test/abc", "status": 200.0, "upstream_status": 200.0,
	}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("log (-want +got)\n%s", diff)
	}
}

func host(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "https://") }

func TestCallersRefused(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.namespaces["reborn"] = w.namespaces["team"]
	other, _, _, _ := token.Keys{}.Step(w.now.Add(-2*time.Hour), token.Rotation{Every: time.Hour * 24, Keep: time.Hour * 24})
	foreign, _ := other.Sign(w.now, token.Claims{Namespace: "demo", NamespaceUID: "uid-demo", Audience: token.AudiencePull, IssuedAt: w.now, Expires: w.now.Add(time.Hour)})
	good := w.token("demo")
	forged := good[:len(good)-ed25519.SignatureSize/2] + strings.Repeat("A", ed25519.SignatureSize/2)
	for name, test := range map[string]struct {
		token  string
		path   string
		status int
		code   Code
		reason string
	}{
		"missing":                    {"", base + "a/tags/list", 401, CodeUnauthorized, ReasonNoToken},
		"missing, at the root":       {"", "/v2/", 401, CodeUnauthorized, ReasonNoToken},
		"missing, unknown connector": {"", "/v2/namespaces/demo/connectors/nope/a/tags/list", 401, CodeUnauthorized, ReasonNoToken},
		"missing, no endpoint":       {"", "/v2/_catalog", 401, CodeUnauthorized, ReasonNoToken},
		"malformed":                  {"eyJ.not.a-token", base + "a/tags/list", 401, CodeUnauthorized, ReasonTokenRefused},
		"too long":                   {strings.Repeat("x", 9000), base + "a/tags/list", 401, CodeUnauthorized, ReasonTokenRefused},
		"unknown key":                {foreign, base + "a/tags/list", 401, CodeUnauthorized, ReasonTokenRefused},
		"forged":                     {forged, base + "a/tags/list", 401, CodeUnauthorized, ReasonTokenRefused},
		"expired": {
			w.token("demo", func(c *token.Claims) { c.Expires = w.now.Add(-time.Minute) }),
			base + "a/tags/list", 401, CodeUnauthorized, ReasonTokenRefused,
		},
		"wrong audience": {
			w.token("demo", func(c *token.Claims) { c.Audience = "connectors.example.com" }),
			base + "a/tags/list", 401, CodeUnauthorized, ReasonTokenRefused,
		},
		"revoked":                {w.token("demo", func(c *token.Claims) { c.Generation = "before" }), base + "a/tags/list", 401, CodeUnauthorized, ReasonTokenRevoked},
		"deleted namespace":      {w.token("gone"), base + "a/tags/list", 401, CodeUnauthorized, ReasonNamespaceGone},
		"deleted namesake":       {w.token("reborn"), base + "a/tags/list", 401, CodeUnauthorized, ReasonNamespaceGone},
		"bad token, at the root": {forged, "/v2/", 401, CodeUnauthorized, ReasonTokenRefused},
		"namespace not listed":   {w.token("stranger"), base + "test/a/tags/list", 403, CodeDenied, ReasonNamespaceRefused},
		"repository not granted": {w.token("team"), base + "other/a/tags/list", 403, CodeDenied, ReasonRepositoryRefused},
		"action not granted":     {w.token("team"), base + "pushed/a/tags/list", 403, CodeDenied, ReasonActionRefused},
		"unknown connector":      {good, "/v2/namespaces/demo/connectors/nope/a/tags/list", 404, CodeNameUnknown, ReasonConnectorUnknown},
		"outside the API":        {good, "/api/v2.0/users", 404, CodeNameUnknown, ReasonPathInvalid},
		"the other way around":   {w.token("demo", forProxies), "/namespaces/demo/connectors/harbor/v2/a/tags/list", 403, CodeDenied, ReasonAPICredentials},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.do(w.request(http.MethodGet, test.path, test.token))
			if got.StatusCode != test.status || got.code != test.code || got.text == "" {
				t.Errorf("answer: %d %s %q, want %d %s", got.StatusCode, got.code, got.text, test.status, test.code)
			}
			if reason := w.log.last(t)["reason"]; reason != test.reason {
				t.Errorf("reason: %v, want %s", reason, test.reason)
			}
			wantChallenge := ""
			if test.status == http.StatusUnauthorized {
				wantChallenge = challenge
			}
			if c := got.Header.Get("Www-Authenticate"); c != wantChallenge {
				t.Errorf("challenge: %q, want %q", c, wantChallenge)
			}
			if test.token != "" && strings.Contains(got.body, test.token) {
				t.Errorf("the token stands in the answer: %s", got.body)
			}
			if seen := w.registry.seen(); len(seen) > 0 {
				t.Errorf("the registry heard of it: %s", seen[0].URL)
			}
			head := w.do(w.request(http.MethodHead, test.path, test.token))
			if head.StatusCode != test.status || head.body != "" {
				t.Errorf("HEAD: %d %q, want %d without a body", head.StatusCode, head.body, test.status)
			}
		})
	}
}

func TestRoot(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	for _, path := range []string{"/v2/", "/v2", "/v2/?ns=c-harbor.demo.svc.cluster.local"} {
		got := w.get(path, "stranger")
		if got.StatusCode != http.StatusOK || got.Header.Get(versionHeader) != version {
			t.Errorf("%s: %d, %s %q", path, got.StatusCode, versionHeader, got.Header.Get(versionHeader))
		}
	}
	if seen := w.registry.seen(); len(seen) > 0 {
		t.Errorf("the registry heard of it: %s", seen[0].URL)
	}
}

func TestPathsThatEscapeReachNobody(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	paths := escapes()
	for name, raw := range map[string]string{
		"raw backslash": base + `a\..\b/manifests/v1`,
		"raw UTF-8":     base + "é/manifests/v1",
		"raw caret":     base + "a^b/manifests/v1",
		"absolute URL":  "http://harbor.example.com/v2/../api/v2.0/users",
		"encoded /v2":   "/%762/namespaces/demo/connectors/harbor/a/tags/list",
		"up from /v2":   "/v2/../api/v2.0/users",
	} {
		paths[name] = struct {
			path string
			want error
		}{raw, endpoint.ErrNone}
	}
	for name, test := range paths {
		t.Run(name, func(t *testing.T) {
			got := w.get(test.path, "demo")
			if got.StatusCode != http.StatusBadRequest && got.StatusCode != http.StatusNotFound || got.code == "" {
				t.Errorf("answer: %d %s", got.StatusCode, got.body)
			}
			if seen := w.registry.seen(); len(seen) > 0 {
				t.Errorf("the registry heard of it: %s", seen[0].URL)
			}
		})
	}
}

func TestMethods(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	for path, allow := range map[string]string{
		"/v2/":                         "GET, HEAD",
		base + "a/manifests/v1":        "GET, HEAD, PUT, DELETE",
		base + "a/blobs/" + sha256:     "GET, HEAD, DELETE",
		base + "a/blobs/uploads/":      "POST",
		base + "a/blobs/uploads/x":     "GET, HEAD, PATCH, PUT, DELETE",
		base + "a/tags/list":           "GET, HEAD",
		base + "a/referrers/" + sha256: "GET, HEAD",
		base + "_catalog":              "GET",
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "TRACE"} {
			got := w.send(method, path, "demo", "")
			heard := len(w.registry.seen()) > 0
			refused := got.StatusCode == http.StatusMethodNotAllowed && got.Header.Get("Allow") == allow && (got.code == CodeUnsupported || method == "HEAD")
			if known := strings.Contains(", "+allow+",", ", "+method+","); known == refused || refused == heard && path != "/v2/" {
				t.Errorf("%s %s: %d %s, Allow %q; the registry heard of it: %v", method, path, got.StatusCode, got.body, got.Header.Get("Allow"), heard)
			}
		}
	}
}

func TestUpgrade(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	upgrade := w.request(http.MethodGet, base+"a/manifests/v1", w.token("demo"))
	upgrade.Header.Set("Connection", "Upgrade")
	upgrade.Header.Set("Upgrade", "h2c")
	if got := w.do(upgrade); got.StatusCode != http.StatusBadRequest || got.code != CodeUnsupported {
		t.Errorf("upgrade: %d %s", got.StatusCode, got.body)
	}
	if seen := w.registry.seen(); len(seen) > 0 {
		t.Errorf("the registry heard of it: %s %s", seen[0].Method, seen[0].URL)
	}
}

func TestHost(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	for host, want := range map[string]int{
		"c-harbor.demo.svc.cluster.local":      404, // of the far registry: MANIFEST_UNKNOWN
		"c-harbor.demo.svc.cluster.local:443":  404,
		"C-Harbor.demo.svc.cluster.local.":     404,
		"c-harbor.demo.svc":                    404,
		"10.96.0.7":                            404,
		"[fd00::7]:443":                        404,
		"berth-proxy.berth-system.svc":         404,
		"c-other.demo.svc.cluster.local":       0,
		"c-harbor.other.svc.cluster.local:443": 0,
		"c-other.demo.svc":                     0,
		"C-OTHER.demo.svc.cluster.local.":      0,
	} {
		r := w.request(http.MethodGet, base+"a/manifests/v1", w.token("demo"))
		r.Host = host
		got := w.do(r)
		if want == 0 && (got.StatusCode != http.StatusNotFound || got.code != CodeNameUnknown || len(w.registry.seen()) != 0) {
			t.Errorf("%s: %d %s", host, got.StatusCode, got.body)
		}
		if seen := w.registry.seen(); want != 0 && len(seen) != 1 {
			t.Errorf("%s: %d requests reached the registry, %d %s", host, len(seen), got.StatusCode, got.body)
		}
	}
}

func TestHeaders(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) {
		h := rw.Header()
		for _, name := range []string{"Set-Cookie", "Www-Authenticate", "Alt-Svc", "Proxy-Authenticate", "Authentication-Info", "X-Nominated"} {
			h.Set(name, "secret-of-the-registry")
		}
		h.Set("Connection", "X-Nominated")
		h.Set("Trailer", "X-Announced")
		h.Set("Docker-Content-Digest", sha256)
		h.Set("Link", `<https://elsewhere>; rel="preload"`)
		rw.WriteHeader(http.StatusEarlyHints)
		rw.WriteHeader(http.StatusOK)
		_, _ = rw.Write([]byte("{}"))
		h.Set("X-Announced", "secret-of-the-registry")
		h.Set(http.TrailerPrefix+"Set-Cookie", "secret-of-the-registry")
	})
	r := w.request(http.MethodGet, base+"a/manifests/v1?ns=c-harbor.demo.svc.cluster.local&x=y", w.token("demo"))
	sent := map[string]string{
		"Accept": "application/vnd.oci.image.manifest.v1+json", "Range": "bytes=0-1", "User-Agent": "containerd/2.4", "If-None-Match": `"x"`,
		"Cookie": "sid=mine", "Forwarded": "for=1.2.3.4", "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "evil", "X-Forwarded-Anything": "evil",
		"Proxy-Authorization": "Basic eA==", "Proxy-Connection": "keep-alive", "X-Real-Ip": "1.2.3.4", "Te": "trailers", "X-Mine": "nominated",
		"Connection": "X-Mine, Authorization", "Via": "1.1 me", "X-Http-Method-Override": "DELETE", "X-Original-Url": "/api",
	}
	for name, value := range sent {
		r.Header.Set(name, value)
	}
	trace := &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
		t.Errorf("the client got %d %v", status, h)
		return nil
	}}
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader("body")), 4
	r.Header.Set("Content-Type", "text/plain")
	got := w.do(r.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
	for name, values := range got.Header {
		if strings.Contains(strings.Join(values, ""), "secret") {
			t.Errorf("the client got %s: %s", name, values)
		}
	}
	if len(got.Trailer) > 0 {
		t.Errorf("the client got trailers: %v", got.Trailer)
	}
	if got.StatusCode != http.StatusOK || got.Header.Get("Docker-Content-Digest") != sha256 {
		t.Errorf("answer: %d %v", got.StatusCode, got.Header)
	}
	seen := w.registry.seen()
	if len(seen) != 1 {
		t.Fatalf("%d requests", len(seen))
	}
	if u, p, _ := seen[0].BasicAuth(); u != username || p != password {
		t.Errorf("the registry got credential '%s'", u)
	}
	if want := "/v2/a/manifests/v1"; seen[0].RequestURI != want || seen[0].Host != host(w.registry.server) {
		t.Errorf("the registry got %s at %s, want %s", seen[0].RequestURI, seen[0].Host, want)
	}
	if seen[0].ContentLength != 0 {
		t.Errorf("the registry got a body of %d bytes with a GET", seen[0].ContentLength)
	}
	names := slices.Sorted(maps.Keys(seen[0].Header))
	want := []string{"Accept", "Authorization", "If-None-Match", "Range", "User-Agent"}
	if diff := cmp.Diff(want, slices.DeleteFunc(names, func(n string) bool { return n == "Accept-Encoding" })); diff != "" {
		t.Errorf("headers at the registry (-want +got)\n%s", diff)
	}
}

func TestQueryAndLink(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.connect("artifactory", w.registry.server.URL+"/artifactory/api/docker/main")
	at := func(connector string) string { return "/v2/namespaces/demo/connectors/" + connector + "/a/b/" }
	for name, test := range map[string]struct {
		path, link, asked, want string
		status                  int
	}{
		"absolute path":         {at("harbor") + "tags/list?n=2&ns=x&last=q&evil=1", `</v2/a/b/tags/list?last=v2&n=2>; rel="next"`, "/v2/a/b/tags/list?last=q&n=2", `<` + at("harbor") + `tags/list?last=v2&n=2>; rel="next"`, 200},
		"absolute URL":          {at("harbor") + "tags/list", `<https://internal:8443/v2/a/b/tags/list?n=2&last=v%2F2>; rel=next`, "/v2/a/b/tags/list", `<` + at("harbor") + `tags/list?last=v%2F2&n=2>; rel="next"`, 200},
		"below a path":          {at("artifactory") + "tags/list", `</v2/a/b/tags/list?n=1&last=x>; rel="next"`, "/artifactory/api/docker/main/v2/a/b/tags/list", `<` + at("artifactory") + `tags/list?last=x&n=1>; rel="next"`, 200},
		"referrers":             {at("harbor") + "referrers/" + sha256 + "?artifactType=a%2Fb&digest=x", `<?artifactType=a%2Fb&nextToken=t>; rel="next"`, "/v2/a/b/referrers/" + sha256 + "?artifactType=a%2Fb", `<` + at("harbor") + "referrers/" + sha256 + `?artifactType=a%2Fb&nextToken=t>; rel="next"`, 200},
		"no next":               {at("harbor") + "tags/list", `<https://elsewhere>; rel="help"`, "/v2/a/b/tags/list", "", 200},
		"parameter not known":   {at("harbor") + "tags/list", `</v2/a/b/tags/list?cursor=x>; rel="next"`, "/v2/a/b/tags/list", "", 502},
		"manifests take no one": {at("harbor") + "manifests/v1?n=1&last=x&artifactType=y", "", "/v2/a/b/manifests/v1", "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) {
				if test.link != "" {
					rw.Header().Set("Link", test.link)
				}
				_, _ = rw.Write([]byte(`{"tags":[]}`))
			})
			got := w.get(test.path, "demo")
			if got.StatusCode != test.status || got.Header.Get("Link") != test.want {
				t.Errorf("answer: %d, Link %q, want %d, %q", got.StatusCode, got.Header.Get("Link"), test.status, test.want)
			}
			if seen := w.registry.seen(); len(seen) != 1 || seen[0].RequestURI != test.asked {
				t.Errorf("the registry was asked %v, want %s", seen, test.asked)
			}
		})
	}
}

// TestWrongTokens: of 10,000 within a second from one address a few are looked at. The registry hears of none, and who
// shares the address and has a good token waits for nobody.
func TestWrongTokens(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.options.Now = func() time.Time { return w.now }
	w.serve(w.options)
	const clients, each = 8, 1250
	statuses := make([]map[int]int, clients)
	good := w.token("demo")
	var all sync.WaitGroup
	for i := range clients {
		statuses[i] = map[int]int{}
		all.Go(func() {
			for n := range each {
				r := w.request(http.MethodGet, base+"a/manifests/v1", fmt.Sprintf("eyJ.%d.%d", i, n))
				r.URL.Path, r.RemoteAddr = base+"a/manifests/v1", "192.0.2.1:1"
				rec := httptest.NewRecorder()
				w.front.Config.Handler.ServeHTTP(rec, r)
				statuses[i][rec.Code]++
				if rec.Code == http.StatusTooManyRequests && (rec.Header().Get("Retry-After") != "1" || !strings.Contains(rec.Body.String(), string(CodeTooManyRequests))) {
					t.Errorf("429: %v %s", rec.Header(), rec.Body)
				}
			}
		})
	}
	all.Wait()
	sum := map[int]int{}
	for _, s := range statuses {
		for status, n := range s {
			sum[status] += n
		}
	}
	const looked = 40 // the burst of one address
	if diff := cmp.Diff(map[int]int{http.StatusUnauthorized: looked, http.StatusTooManyRequests: clients*each - looked}, sum); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if seen := w.registry.seen(); len(seen) > 0 {
		t.Errorf("the registry was asked %v", seen)
	}
	for what, want := range map[string]int{good: http.StatusOK, "": http.StatusUnauthorized} {
		r := w.request(http.MethodGet, "/v2/", what)
		r.URL.Path, r.RemoteAddr = "/v2/", "192.0.2.1:1"
		rec := httptest.NewRecorder()
		w.front.Config.Handler.ServeHTTP(rec, r)
		if rec.Code != want {
			t.Errorf("a good token, or none, from the same address: %d, want %d", rec.Code, want)
		}
	}
}

func TestEnvelope(t *testing.T) {
	rec := httptest.NewRecorder()
	(&refusal{status: 403, code: CodeDenied, message: `say "why"`}).write(rec, http.MethodGet)
	var got any
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"errors": []any{map[string]any{"code": "DENIED", "message": `say "why"`}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if fmt.Sprint(len(rec.Body.Bytes())) != rec.Header().Get("Content-Length") {
		t.Errorf("Content-Length: %s", rec.Header().Get("Content-Length"))
	}
}
