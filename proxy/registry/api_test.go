package registry

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/bearer"
	"berth.dev/berth/proxy/upstream"
)

const apiBase = "/namespaces/demo/connectors/harbor"

func TestAPI(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.connect("deep", w.registry.server.URL+"/harbor")
	for name, test := range map[string]struct{ method, path, asked, body string }{
		"read":             {"GET", apiBase + "/api/v2.0/projects?page=2&q=name%3D~a;b&ns=x", "/api/v2.0/projects?page=2&q=name%3D~a;b&ns=x", ""},
		"head":             {"HEAD", apiBase + "/api/v2.0/projects", "/api/v2.0/projects", ""},
		"slash in segment": {"GET", apiBase + "/api/v2.0/projects/a/repositories/b%252Fc/artifacts/sha256:x", "/api/v2.0/projects/a/repositories/b%252Fc/artifacts/sha256:x", ""},
		"below a path":     {"GET", "/namespaces/demo/connectors/deep/api/v2.0/a%252Fb", "/harbor/api/v2.0/a%252Fb", ""},
		"start a scan":     {"POST", apiBase + "/api/v2.0/projects/a/repositories/b/artifacts/v1/scan", "/api/v2.0/projects/a/repositories/b/artifacts/v1/scan", `{"scan_type":"sbom"}`},
	} {
		t.Run(name, func(t *testing.T) {
			var body string
			w.registry.answer(func(rw http.ResponseWriter, r *http.Request) {
				read, _ := io.ReadAll(r.Body)
				body = string(read)
				rw.Header().Set("X-Harbor-Csrf-Token", "secret-of-the-registry")
				rw.Header().Set("X-Total-Count", "3")
				_, _ = rw.Write([]byte(`[]`))
			})
			got := w.send(test.method, test.path, "demo", test.body)
			if got.StatusCode != http.StatusOK || got.Header.Get("X-Total-Count") != "3" || got.Header.Get("X-Harbor-Csrf-Token") != "" || got.Header.Get("Set-Cookie") != "" {
				t.Errorf("answer: %d %v %s", got.StatusCode, got.Header, got.body)
			}
			seen := w.registry.seen()
			if len(seen) != 1 || seen[0].RequestURI != test.asked || body != test.body {
				t.Fatalf("the server was asked %v with %q, want %s", seen, body, test.asked)
			}
			if u, p, _ := seen[0].BasicAuth(); u != username || p != password {
				t.Errorf("the server got credential '%s'", u)
			}
		})
	}
}

func TestAPIRefused(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	for name, test := range map[string]struct {
		namespace, method, path string
		status                  int
		reason                  string
	}{
		"not granted":                 {"stranger", "GET", "/api/v2.0/projects", 403, ReasonNamespaceRefused},
		"granted for some":            {"team", "GET", "/api/v2.0/projects", 403, ReasonActionRefused},
		"not opened":                  {"demo", "DELETE", "/api/v2.0/projects/1", 403, ReasonAPIClosed},
		"not opened, options":         {"demo", "OPTIONS", "/api/v2.0/projects/1", 403, ReasonAPIClosed},
		"not opened, root":            {"demo", "GET", "/harbor", 403, ReasonAPIClosed},
		"credentials":                 {"demo", "POST", "/api/v2.0/robots", 403, ReasonAPICredentials},
		"token service":               {"demo", "GET", "/service/token", 403, ReasonAPICredentials},
		"registry":                    {"demo", "GET", "/v2/a/manifests/v1", 403, ReasonAPICredentials},
		"dot segments":                {"demo", "GET", "/api/v2.0/projects/../robots", 404, ReasonPathInvalid},
		"encoded dot segments":        {"demo", "GET", "/api/v2.0/projects/%2e%2e/robots", 404, ReasonPathInvalid},
		"encoded slash":               {"demo", "GET", "/api/v2.0/projects%2f..%2frobots", 404, ReasonPathInvalid},
		"doubly encoded dot segments": {"demo", "GET", "/api/v2.0/projects/a%252F..%252Frobots", 404, ReasonPathInvalid},
		"empty segment":               {"demo", "GET", "/api/v2.0//robots", 404, ReasonPathInvalid},
		"matrix parameter":            {"demo", "GET", "/api/v2.0/robots;x=1", 404, ReasonPathInvalid},
		"nothing":                     {"demo", "GET", "/", 404, ReasonPathInvalid},
		"no slash":                    {"demo", "GET", "", 404, ReasonPathInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.send(test.method, apiBase+test.path, test.namespace, "")
			if got.StatusCode != test.status || got.code == "" {
				t.Errorf("answer: %d %s, want %d", got.StatusCode, got.body, test.status)
			}
			if reason := w.log.last(t)["reason"]; reason != test.reason {
				t.Errorf("reason: %v, want %s", reason, test.reason)
			}
			if seen := w.registry.seen(); len(seen) > 0 {
				t.Errorf("the server heard of it: %s", seen[0].URL)
			}
		})
	}
	if got := w.get(apiBase+"/api/v2.0/projects", "demo"); got.StatusCode != http.StatusForbidden || w.log.last(t)["reason"] != ReasonTokenForPulls {
		t.Errorf("a token for pulls: %d %s", got.StatusCode, got.body)
	}
}

// TestAccount: Harbor shows an account the secret by which it signs in to the registry, which is the Connector's credential.
func TestAccount(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	for name, test := range map[string]struct {
		status int
		answer string
		want   string
		code   int
	}{
		"account":   {200, `{"user_id":3,"username":"dev","oidc_user_meta":{"secret":"` + "cli" + `-secret"},"new_secret":"cli-secret"}`, `{"user_id":3,"username":"dev"}`, 200},
		"not JSON":  {200, `cli-secret`, "", 502},
		"too large": {200, `{"username":"` + strings.Repeat("x", 1<<20) + `"}`, "", 502},
		"an error":  {404, `{"errors":[{"code":"NOT_FOUND","message":"robots are no users"}]}`, `{"errors":[{"code":"NOT_FOUND","message":"robots are no users"}]}`, 404},
	} {
		t.Run(name, func(t *testing.T) {
			w.registry.answer(func(rw http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Accept-Encoding") != "" {
					t.Error("the answer may be compressed")
				}
				rw.WriteHeader(test.status)
				_, _ = rw.Write([]byte(test.answer))
			})
			got := w.send(http.MethodGet, apiBase+"/api/v2.0/users/current", "demo", "")
			if got.StatusCode != test.code || test.want != "" && got.body != test.want || strings.Contains(got.body, "cli-secret") {
				t.Errorf("answer: %d %s", got.StatusCode, got.body)
			}
		})
	}
}

func TestAPIPlaces(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	address := w.registry.server.URL
	for name, test := range map[string]struct {
		status                       int
		location, wantLocation, link string
		wantLink                     string
		want                         int
	}{
		"pages":             {200, "", "", `</api/v2.0/projects?page=1&page_size=2>; rel="prev" , </api/v2.0/projects?page=3>; rel="next"`, `<` + apiBase + `/api/v2.0/projects?page=1&page_size=2>; rel="prev", <` + apiBase + `/api/v2.0/projects?page=3>; rel="next"`, 200},
		"elsewhere":         {200, "", "", `<https://example.com/help>; rel="help"`, "", 200},
		"no link":           {200, "", "", `<`, "", 200},
		"made":              {201, "/api/v2.0/projects/5", apiBase + "/api/v2.0/projects/5", "", "", 201},
		"made, URL":         {201, address + "/api/v2.0/a%252Fb?x=%2F", apiBase + "/api/v2.0/a%252Fb?x=%2F", "", "", 201},
		"made, nowhere":     {201, "https://[", "", "", "", 201},
		"redirect":          {302, "/c/oidc/login", apiBase + "/c/oidc/login", "", "", 302},
		"redirect away":     {302, "https://s3.example.com/x?sig=%2F", "https://s3.example.com/x?sig=%2F", "", "", 302},
		"redirect, no path": {302, "/api/%2e%2e/x", "", "", "", 502},
	} {
		t.Run(name, func(t *testing.T) {
			w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) {
				for header, value := range map[string]string{"Location": test.location, "Link": test.link} {
					if value != "" {
						rw.Header().Set(header, value)
					}
				}
				rw.WriteHeader(test.status)
			})
			got := w.send(http.MethodGet, apiBase+"/api/v2.0/projects", "demo", "")
			if got.StatusCode != test.want || got.Header.Get("Location") != test.wantLocation || got.Header.Get("Link") != test.wantLink {
				t.Errorf("answer: %d, Location %q, Link %q", got.StatusCode, got.Header.Get("Location"), got.Header.Get("Link"))
			}
		})
	}
}

func TestCatalog(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	const next = `</v2/_catalog?last=z&n=2>; rel="next"`
	for name, test := range map[string]struct {
		namespace, query, answer, link string
		asked, want, wantLink          string
		status                         int
	}{
		"all":            {"demo", "?n=2&last=a&ns=x&evil=1", `{"repositories":["a","b/c"]}`, next, "/v2/_catalog?last=a&n=2", `{"repositories":["a","b/c"]}`, `<` + base + `_catalog?last=z&n=2>; rel="next"`, 200},
		"some":           {"team", "", `{"repositories":["a","test/a","pushed/a","test/b/c","testing"]}`, "", "/v2/_catalog", `{"repositories":["test/a","test/b/c"]}`, "", 200},
		"none leads on":  {"team", "", `{"repositories":["a","b"]}`, next, "/v2/_catalog", `{"repositories":[]}`, `<` + base + `_catalog?last=z&n=2>; rel="next"`, 200},
		"foreign names":  {"demo", "", `{"repositories":["a","../b","C","https://evil/x","a\u0000","","` + strings.Repeat("x", 256) + `","d"],"token":"x"}`, "", "/v2/_catalog", `{"repositories":["a","d"]}`, "", 200},
		"nothing":        {"demo", "", `{}`, "", "/v2/_catalog", `{"repositories":[]}`, "", 200},
		"null":           {"demo", "", `{"repositories":null}`, "", "/v2/_catalog", `{"repositories":[]}`, "", 200},
		"no list":        {"demo", "", `<html>`, "", "/v2/_catalog", "", "", 502},
		"numbers":        {"demo", "", `{"repositories":[1]}`, "", "/v2/_catalog", "", "", 502},
		"without an end": {"demo", "", `{"repositories":["` + strings.Repeat(`a","`, 4<<20/3) + `"]}`, "", "/v2/_catalog", "", "", 502},
	} {
		t.Run(name, func(t *testing.T) {
			w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) {
				if test.link != "" {
					rw.Header().Set("Link", test.link)
				}
				rw.Header().Set("Etag", `"whole"`)
				_, _ = rw.Write([]byte(test.answer))
			})
			got := w.get(base+"_catalog"+test.query, test.namespace)
			if got.StatusCode != test.status || test.want != "" && got.body != test.want || got.Header.Get("Link") != test.wantLink || got.Header.Get("Etag") != "" {
				t.Errorf("answer: %d %.200s, %v", got.StatusCode, got.body, got.Header)
			}
			if seen := w.registry.seen(); len(seen) != 1 || seen[0].RequestURI != test.asked {
				t.Errorf("the registry was asked %v, want %s", seen, test.asked)
			}
		})
	}
	if got := w.get(base+"_catalog", "stranger"); got.StatusCode != http.StatusForbidden {
		t.Errorf("a caller without access: %d", got.StatusCode)
	}
	if got := w.get("/v2/_catalog", "demo"); got.StatusCode != http.StatusNotFound || got.code != CodeNameUnknown || !strings.Contains(got.text, "/v2/namespaces/") {
		t.Errorf("without a Connector: %d %s", got.StatusCode, got.body)
	}
	if seen := w.registry.seen(); len(seen) > 0 {
		t.Errorf("the registry heard of it: %s", seen[0].URL)
	}
}

// TestAPIScopes: the server's own API takes the credential itself.
func TestAPIScopes(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	var asked [][]bearer.Scope
	o := w.options
	o.Upstream = scoped(func(scopes []bearer.Scope) { asked = append(asked, scopes) })
	w.serve(o)
	w.send(http.MethodGet, apiBase+"/api/v2.0/projects", "demo", "")
	if diff := cmp.Diff([][]bearer.Scope{nil}, asked); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
