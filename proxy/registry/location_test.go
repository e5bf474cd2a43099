package registry

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"berth.dev/berth/access"
	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/proxy/upstream"
)

func TestRedirects(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	address := w.registry.server.URL
	w.connect("deep", address+"/deep")
	far, _ := url.Parse(address)
	blob := "a/blobs/" + sha256
	deep := "/v2/namespaces/demo/connectors/deep/"
	for name, test := range map[string]struct {
		connector, location, want string
		status                    int
	}{
		"object storage":    {"harbor", "https://s3.example.com/b/x?X-Amz-Signature=a%2Fb&y=1", "https://s3.example.com/b/x?X-Amz-Signature=a%2Fb&y=1", 307},
		"own host":          {"harbor", address + "/v2/" + blob + "?_state=a%2Bb%3D", base + blob + "?_state=a%2Bb%3D", 307},
		"own host, http":    {"harbor", "http://" + far.Host + "/v2/" + blob, base + blob, 307},
		"absolute path":     {"harbor", "/v2/" + blob, base + blob, 307},
		"relative":          {"harbor", "./" + sha256 + "?x", base + blob + "?x", 307},
		"dot segments":      {"harbor", "../../b/blobs/" + sha256, base + "b/blobs/" + sha256, 307},
		"below a path":      {"deep", "/deep/v2/" + blob, deep + blob, 307},
		"beside the path":   {"deep", "/v2/" + blob, address + "/v2/" + blob, 307},
		"own host, no API":  {"harbor", "/storage/x?sig=1", address + "/storage/x?sig=1", 307},
		"user and password": {"harbor", "https://u:p@" + far.Host + "/storage/x", address + "/storage/x", 307},
		"another port":      {"harbor", "https://" + far.Hostname() + ":1/v2/" + blob, "https://" + far.Hostname() + ":1/v2/" + blob, 307},
		"scheme-less":       {"harbor", "//s3.example.com/x", "https://s3.example.com/x", 307},
		"no endpoint":       {"harbor", "/v2/a/nothing", "", 502},
		"no grammar":        {"harbor", "/v2/a/manifests/%2e%2e", "", 502},
		"no address":        {"harbor", "https://[", "", 502},
		"no host":           {"harbor", "https:///x", "", 502},
		"another scheme":    {"harbor", "ftp://" + far.Host + "/v2/" + blob, "", 502},
	} {
		t.Run(name, func(t *testing.T) {
			w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Location", test.location)
				rw.WriteHeader(http.StatusTemporaryRedirect)
			})
			got := w.get("/v2/namespaces/demo/connectors/"+test.connector+"/"+blob, "demo")
			if got.StatusCode != test.status || got.Header.Get("Location") != test.want {
				t.Errorf("answer: %d %q, want %d %q", got.StatusCode, got.Header.Get("Location"), test.status, test.want)
			}
			if seen := w.registry.seen(); len(seen) != 1 {
				t.Errorf("%d requests, want 1: a redirect is the client's to follow", len(seen))
			}
		})
	}
}

func TestUploadLocations(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	address := w.registry.server.URL
	w.connect("deep", address+"/artifactory/api/docker/main")
	far, _ := url.Parse(address)
	const state = "?_state=y4CXAeAQ1Wv%2BtVnf_-%3D&_nouploadcache=false"
	up := base + "a/b/blobs/uploads/u-1_x=="
	deep := "/v2/namespaces/demo/connectors/deep/a/b/blobs/uploads/u1"
	for name, test := range map[string]struct {
		connector, location, want string
		status                    int
	}{
		"absolute":            {"harbor", address + "/v2/a/b/blobs/uploads/u-1_x==" + state, up + state, 202},
		"absolute path":       {"harbor", "/v2/a/b/blobs/uploads/u-1_x==" + state, up + state, 202},
		"relative":            {"harbor", "u-1_x==" + state, up + state, 202},
		"another scheme":      {"harbor", "http://" + far.Host + "/v2/a/b/blobs/uploads/u-1_x==" + state, up + state, 202},
		"another port":        {"harbor", "http://" + far.Hostname() + ":8081/v2/a/b/blobs/uploads/u-1_x==", up, 202},
		"no port":             {"harbor", "https://" + far.Hostname() + "/v2/a/b/blobs/uploads/u-1_x==", up, 202},
		"below a path":        {"deep", address + "/artifactory/api/docker/main/v2/a/b/blobs/uploads/u1?x=1", deep + "?x=1", 202},
		"without the path":    {"deep", address + "/v2/a/b/blobs/uploads/u1", deep, 202},
		"Artifactory's own":   {"deep", "http://" + far.Hostname() + ":8081/artifactory/v2/main/a/b/blobs/uploads/u1", deep, 202},
		"GitHub's":            {"harbor", "/v2/a/b/blobs/upload/384a86f0", base + "a/b/blobs/upload/384a86f0", 202},
		"Google's":            {"harbor", "/artifacts-uploads/namespaces/proj/repositories/repo/uploads/AJ-x_y==?digest=1", base + "a/b/blobs/artifacts-uploads/proj~repo~AJ-x_y==?digest=1", 202},
		"another host":        {"harbor", "https://uploads.example.com/x/y?sig=a%2Fb", "https://uploads.example.com/x/y?sig=a%2Fb", 202},
		"another place":       {"harbor", "/api/v2.0/users", "", 502},
		"another place, port": {"harbor", "https://" + far.Hostname() + ":1/x", "", 502},
		"no upload":           {"harbor", "/v2/a/b/blobs/uploads/..", "", 502},
		"no name":             {"harbor", "/v2/c/blobs/uploads/%2e%2e%2fx", "", 502},
		"Google's, deeper":    {"harbor", "/artifacts-uploads/namespaces/p/repositories/../uploads/x", "", 502},
		"no address":          {"harbor", "%zz", "", 502},
	} {
		t.Run(name, func(t *testing.T) {
			w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Location", test.location)
				rw.Header().Set("Docker-Upload-UUID", "u1")
				rw.Header().Set("Range", "0-0")
				rw.Header().Set("OCI-Chunk-Min-Length", "1024")
				rw.WriteHeader(http.StatusAccepted)
			})
			got := w.send(http.MethodPost, "/v2/namespaces/demo/connectors/"+test.connector+"/a/b/blobs/uploads/", "demo", "")
			if got.StatusCode != test.status || got.Header.Get("Location") != test.want {
				t.Fatalf("answer: %d %q %s, want %d %q", got.StatusCode, got.Header.Get("Location"), got.text, test.status, test.want)
			}
			w.registry.seen()
			if test.status == http.StatusAccepted && (got.Header.Get("Docker-Upload-UUID") != "u1" || got.Header.Get("OCI-Chunk-Min-Length") != "1024" || got.Header.Get("Range") != "0-0") {
				t.Errorf("headers: %v", got.Header)
			}
			if !strings.HasPrefix(test.want, "/") {
				return
			}
			// Where the client goes on, the registry sees its own path and query again.
			w.send(http.MethodPatch, got.Header.Get("Location"), "demo", "chunk")
			seen := w.registry.seen()
			if len(seen) != 1 {
				t.Fatalf("%d requests", len(seen))
			}
			_, query, _ := strings.Cut(test.want, "?")
			if seen[0].URL.RawQuery != query {
				t.Errorf("the registry got the query %q, want %q", seen[0].URL.RawQuery, query)
			}
			if name == "Google's" && seen[0].URL.Path != "/artifacts-uploads/namespaces/proj/repositories/repo/uploads/AJ-x_y==" {
				t.Errorf("the registry got %s", seen[0].URL.Path)
			}
		})
	}
}

// TestMade: what was made stays made, whatever the registry says about its place.
func TestMade(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	for name, test := range map[string]struct{ path, location, digest, want string }{
		"blob":                     {"a/blobs/uploads/u1?digest=" + sha256, "/v2/a/blobs/" + sha256, sha256, base + "a/blobs/" + sha256},
		"blob, wrong place":        {"a/blobs/uploads/u1?digest=" + sha256, "/internal/a", sha256, base + "a/blobs/" + sha256},
		"manifest":                 {"a/manifests/v1", "/v2/a/manifests/" + sha256, sha256, base + "a/manifests/" + sha256},
		"manifest, no address":     {"a/manifests/v1", "https://[", sha256, base + "a/manifests/" + sha256},
		"manifest, nothing known":  {"a/manifests/v1", "https://[", "", ""},
		"manifest, no such digest": {"a/manifests/v1", "/v2/a/x", "sha256:../..", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Location", test.location)
				rw.Header().Set("Docker-Content-Digest", test.digest)
				rw.Header().Set("OCI-Subject", sha256)
				rw.WriteHeader(http.StatusCreated)
			})
			got := w.send(http.MethodPut, base+test.path, "demo", "{}")
			if got.StatusCode != http.StatusCreated || got.Header.Get("Location") != test.want || got.Header.Get("OCI-Subject") != sha256 {
				t.Errorf("answer: %d %v, want Location %q", got.StatusCode, got.Header, test.want)
			}
		})
	}
}

// FuzzLocation: a Location is either the path of something at Berth, or a place at another host, or, of a redirect
// that is no upload's, one that is not in the registry's API.
func FuzzLocation(f *testing.F) {
	address, _ := url.Parse("https://harbor.example.com/art")
	c := &access.Connector{Address: address, Registry: "harbor.example.com"}
	c.Namespace, c.Name = "demo", "harbor"
	for _, seed := range []string{
		"/art/v2/a/blobs/uploads/u1?_state=a%2Bb%3D", "https://harbor.example.com:443/art/v2/a/blobs/uploads/u1", "u1", "../u1", "//evil/x", "https://harbor.example.com./v2/a",
		"/v2/a/blobs/uploads/..", "/artifacts-uploads/namespaces/p/repositories/r/uploads/x", "https://HARBOR.example.com/art/v2/a/blobs/uploads/u%31", "?x", "#y", "https:x", `\\harbor.example.com\x`,
		"https://harbor.example.com@evil/", "http://harbor.example.com:80/art/v2/a/manifests/v1", "/art/v2/a/../../../api", "javascript:1", "/art/v2/a/blobs/uploads/x y", "//::",
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, location string, upload bool) {
		target := Target{c.Connector, endpoint.Endpoint{Repository: "a", Kind: endpoint.KindBlobs, Reference: sha256}}
		if upload {
			target.Kind, target.Reference = endpoint.KindUploads, ""
		}
		requested := address.JoinPath(target.UpstreamPath())
		got, err := relocated(location, requested, c, target)
		if err != nil {
			return
		}
		at := &url.URL{Scheme: "https", Host: "berth", Path: target.Path()}
		followed, err := at.Parse(got)
		if err != nil || strings.ContainsAny(got, "\r\n") {
			t.Fatalf("%q became %q: %v", location, got, err)
		}
		if followed.Host == "berth" {
			if again, err := ParsePath(followed.EscapedPath()); err != nil || again.Connector != c.Connector || upload && !strings.HasPrefix(got, "/v2/") {
				t.Errorf("%q became %q, which is %v, %v", location, got, again, err)
			}
			return
		}
		if followed.Scheme != "https" && followed.Scheme != "http" {
			t.Errorf("%q became %q", location, got)
		}
		if !sameName(followed, address) {
			return
		}
		if upload || followed.User != nil || samePort(followed, address) && strings.HasPrefix(followed.EscapedPath(), "/art/v2/") {
			t.Errorf("%q became %q, which leads around Berth", location, got)
		}
	})
}

// FuzzLink: a Link leads on in the same list, or is no more.
func FuzzLink(f *testing.F) {
	for _, seed := range []string{`</v2/a/tags/list?n=1&last=x>; rel="next"`, `<?last=%2F>; rel=next`, `<x>; rel="next", </y?last=z>; rel=next`, `<>`, `<?last=a&last=b>;rel=next`, `<?x=y>; rel=next`} {
		f.Add(seed)
	}
	target := Target{Endpoint: endpoint.Endpoint{Repository: "a", Kind: endpoint.KindTags}}
	target.Connector.Namespace, target.Connector.Name = "demo", "harbor"
	f.Fuzz(func(t *testing.T, link string) {
		next, err := nextPage([]string{link}, target)
		if err != nil || next == "" {
			return
		}
		u, err := url.ParseRequestURI(next)
		if err != nil || u.Host != "" || u.EscapedPath() != target.Path() || strings.ContainsAny(next, "<> \r\n\"") {
			t.Errorf("%q became %q: %v", link, next, err)
		}
		if again := query(target, u.RawQuery, ""); again != u.RawQuery {
			t.Errorf("%q leads on to %q, of which the registry would get %q", link, u.RawQuery, again)
		}
	})
}
