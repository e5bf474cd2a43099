package conformance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"berth.dev/berth/test/loopback"
)

// wholesale are the methods that change something.
func wholesale() map[string]string {
	unknown := digest([]byte("nothing"))
	return map[string]string{
		"begin an upload":    "POST app/blobs/uploads/",
		"mount":              "POST app/blobs/uploads/?mount=" + unknown + "&from=other",
		"go on":              "PATCH app/blobs/uploads/6ba7b810-9dad-11d1-80b4-00c04fd430c8",
		"ask for an upload":  "GET app/blobs/uploads/6ba7b810-9dad-11d1-80b4-00c04fd430c8",
		"end an upload":      "PUT app/blobs/uploads/6ba7b810-9dad-11d1-80b4-00c04fd430c8?digest=" + unknown,
		"cancel an upload":   "DELETE app/blobs/uploads/6ba7b810-9dad-11d1-80b4-00c04fd430c8",
		"put a manifest":     "PUT app/manifests/v1",
		"delete a manifest":  "DELETE app/manifests/" + unknown,
		"delete a tag":       "DELETE app/manifests/v1",
		"delete a blob":      "DELETE app/blobs/" + unknown,
		"put, for a HEAD":    "PUT app/manifests/" + unknown,
		"begin, at once":     "POST app/blobs/uploads/?digest=" + unknown,
		"begin, of a mirror": "POST app/blobs/uploads/?ns=docker.io",
	}
}

// TestPullToken: kubelet's token is for pulls, and one for the proxy's variables is for all that is granted.
func TestPullToken(t *testing.T) {
	s := loopback.New(t)
	r := s.Basic()
	b := s.Berth(map[string]loopback.Connector{
		"registry": {Registry: r}, "readonly": {Registry: r, Actions: []string{"pull"}},
	})
	seed := &session{T: t, door: straight(s, r)}
	seed.image("app", "v1")
	before := len(r.Seen())
	for name, tc := range map[string]struct{ connector, audience string }{
		"the token is for pulls":     {"registry", "pull"},
		"the Connector is for pulls": {"readonly", "proxy"},
	} {
		t.Run(name, func(t *testing.T) {
			d := through(s, b, tc.connector, false)
			d.root, d.password = rootStraight, b.Token(loopback.Namespace, tc.audience)
			x := &session{T: t, door: d}
			for what, request := range wholesale() {
				method, path, _ := strings.Cut(request, " ")
				if a := x.do(method, path, nil); a.status != http.StatusForbidden || code(a) != "DENIED" {
					t.Errorf("%s: %d %s, want 403 DENIED", what, a.status, a.body)
				}
			}
			if asked := r.Seen()[before:]; len(asked) > 0 {
				t.Errorf("the registry was asked %v", asked)
			}
		})
	}
	d := through(s, b, "registry", false)
	d.root, d.password = rootStraight, b.Token(loopback.Namespace, "pull")
	if a := (&session{T: t, door: d}).do(http.MethodGet, "app/manifests/v1", nil, header("Accept", manifestType)); a.status != http.StatusOK {
		t.Errorf("a pull is answered %d %s", a.status, a.body)
	}
}

// TestDoor: who is not known is told by Berth, and what is no path of the API goes no further.
func TestDoor(t *testing.T) {
	s := loopback.New(t)
	r := s.Token("")
	b := s.Berth(map[string]loopback.Connector{"registry": {Registry: r}})
	d := through(s, b, "registry", false)
	good := d.password
	app := d.api + "team/app"
	for name, tc := range map[string]struct {
		method, path string
		password     string
		host         string
		status       int
		code         string
	}{
		"no token":                   {path: app + "/manifests/v1", status: 401, code: "UNAUTHORIZED"},
		"no token, at the base":      {path: "/v2/", status: 401, code: "UNAUTHORIZED"},
		"nonsense for a token":       {path: app + "/manifests/v1", password: "nonsense", status: 401, code: "UNAUTHORIZED"},
		"the registry's password":    {path: app + "/manifests/v1", password: r.Password, status: 401, code: "UNAUTHORIZED"},
		"another namespace":          {path: app + "/manifests/v1", password: b.Token("other", "proxy"), status: 403, code: "DENIED"},
		"another Connector":          {path: loopback.API("other") + "app/manifests/v1", password: good, status: 404, code: "NAME_UNKNOWN"},
		"another Connector's host":   {path: app + "/manifests/v1", password: good, host: "c-other.demo.svc.cluster.local", status: 404, code: "NAME_UNKNOWN"},
		"a slash that is encoded":    {path: d.api + "team%2Fapp/manifests/v1", password: good, status: 400},
		"a digest that is encoded":   {path: app + "/blobs/sha256%3A" + strings.Repeat("a", 64), password: good, status: 400},
		"dots":                       {path: d.api + "team/../other/manifests/v1", password: good, status: 400},
		"dots that are encoded":      {path: d.api + "team/%2e%2e/other/manifests/v1", password: good, status: 400},
		"dots out of the Connector":  {path: d.api + "../../../../v2/_catalog", password: good, status: 404},
		"two slashes":                {path: d.api + "team//app/manifests/v1", password: good, status: 400},
		"a slash at the end":         {path: app + "/manifests/v1/", password: good, status: 404},
		"a slash after a list":       {path: app + "/tags/list/", password: good, status: 404},
		"a backslash":                {path: d.api + `team%5Capp/manifests/v1`, password: good, status: 400},
		"capitals":                   {path: d.api + "Team/manifests/v1", password: good, status: 400, code: "NAME_INVALID"},
		"a tag that is none":         {path: app + "/manifests/-v1", password: good, status: 404},
		"a digest that is none":      {path: app + "/blobs/sha256:12", password: good, status: 400, code: "DIGEST_INVALID"},
		"no endpoint":                {path: app + "/signatures/v1", password: good, status: 404},
		"the registry's own service": {path: "/service/token", password: good, status: 404},
		"POST of a manifest":         {method: "POST", path: app + "/manifests/v1", password: good, status: 405, code: "UNSUPPORTED"},
		"DELETE of tags":             {method: "DELETE", path: app + "/tags/list", password: good, status: 405, code: "UNSUPPORTED"},
		"PATCH of a blob":            {method: "PATCH", path: app + "/blobs/" + digest(nil), password: good, status: 405, code: "UNSUPPORTED"},
		"TRACE":                      {method: "TRACE", path: app + "/manifests/v1", password: good, status: 405, code: "UNSUPPORTED"},
		"an invented method":         {method: "FETCH", path: app + "/manifests/v1", password: good, status: 405, code: "UNSUPPORTED"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(r.Seen()) + len(r.Tokens.Seen())
			request, err := http.NewRequestWithContext(t.Context(), tc.method, d.origin, nil)
			s.OK(err)
			request.URL.Opaque, request.Host = tc.path, tc.host
			if tc.password != "" {
				request.SetBasicAuth("any", tc.password)
			}
			a, err := d.sendAsIs(request)
			s.OK(err)
			if a.status != tc.status || tc.code != "" && code(a) != tc.code || code(a) == "" {
				t.Errorf("got %d %s, want %d %s", a.status, a.body, tc.status, tc.code)
			}
			challenges := a.header.Values("Www-Authenticate")
			if a.status == 401 != slices.Equal(challenges, []string{`Basic realm="berth"`}) || a.status != 401 && len(challenges) > 0 {
				t.Errorf("the challenges are %q", challenges)
			}
			if after := len(r.Seen()) + len(r.Tokens.Seen()); after != before {
				t.Errorf("the registry was asked: %v", r.Seen())
			}
		})
	}
}

// TestMountWithoutAccess: who may not pull the source gets an ordinary upload, as if the blob were not there.
func TestMountWithoutAccess(t *testing.T) {
	for kind, start := range registries() {
		t.Run(kind, func(t *testing.T) {
			s := loopback.New(t)
			r := start(s)
			b := s.Berth(map[string]loopback.Connector{
				"registry": {Registry: r}, "narrow": {Registry: r, Repositories: []string{rootThrough + "/target/**", rootThrough + "/target"}},
			})
			wide, narrow := &session{T: t, door: through(s, b, "registry", false)}, &session{T: t, door: through(s, b, "narrow", false)}
			blob := wide.put("source", content(1, 1000))
			for name, tc := range map[string]struct {
				at     *session
				target string
				from   string
				status int
			}{
				"from a source that is not granted":  {narrow, "target", narrow.from("source"), http.StatusAccepted},
				"as the registry names it":           {narrow, "target", rootThrough + "/source", http.StatusAccepted},
				"from a source of another Connector": {narrow, "target", wide.from("source"), http.StatusAccepted},
				"from no name":                       {narrow, "target", "../source", http.StatusAccepted},
				"to what is not granted":             {narrow, "other", narrow.from("target"), http.StatusForbidden},
				"with access":                        {wide, "copied", wide.from("source"), http.StatusCreated},
			} {
				t.Run(name, func(t *testing.T) {
					x := &session{T: t, door: tc.at.door}
					a := x.do(http.MethodPost, tc.target+"/blobs/uploads/?mount="+blob+"&from="+url.QueryEscape(tc.from), nil)
					if a.status != tc.status {
						t.Errorf("got %d %s, want %d", a.status, a.body, tc.status)
					}
					has := wide.do(http.MethodHead, tc.target+"/blobs/"+blob, nil).status == http.StatusOK
					if has != (tc.status == http.StatusCreated) {
						t.Errorf("the target has the blob: %t", has)
					}
				})
			}
		})
	}
}

// TestCatalog: a catalogue has what the caller may pull, page by page.
func TestCatalog(t *testing.T) {
	for kind, start := range map[string]func(*loopback.Site) *loopback.Registry{"basic": registries()["basic"], "token": registries()["token"]} {
		t.Run(kind, func(t *testing.T) {
			s := loopback.New(t)
			r := start(s)
			b := s.Berth(map[string]loopback.Connector{
				"registry": {Registry: r}, "narrow": {Registry: r, Repositories: []string{"payments/**"}},
			})
			seed := straight(s, r)
			for _, root := range []string{"alpha", "payments", "zeta"} {
				seed.root = root
				x := &session{T: t, door: seed}
				x.image("api", "v1")
				x.image("web", "v1")
			}
			all := []string{"alpha/api", "alpha/web", "payments/api", "payments/web", "zeta/api", "zeta/web"}
			for name, tc := range map[string]struct {
				door *door
				want []string
			}{
				"straight":         {seed, all},
				"all is granted":   {through(s, b, "registry", false), all},
				"some are granted": {through(s, b, "narrow", false), all[2:4]},
			} {
				for _, n := range []int{0, 1, 4, 100} {
					t.Run(fmt.Sprintf("%s, %d a page", name, n), func(t *testing.T) {
						at := "/_catalog"
						if n > 0 {
							at = fmt.Sprintf("/_catalog?n=%d", n)
						}
						if got := (&session{T: t, door: tc.door}).repositories(at); !slices.Equal(got, tc.want) {
							t.Errorf("got %v, want %v", got, tc.want)
						}
					})
				}
			}
		})
	}
}

// repositories reads a catalogue to its end.
func (s *session) repositories(at string) (all []string) {
	s.Helper()
	for range 20 {
		a := s.do(http.MethodGet, at, nil)
		var page struct{ Repositories []string }
		if err := json.Unmarshal(a.body, &page); err != nil || a.status != http.StatusOK {
			s.Fatalf("%s: %d %s: %v", at, a.status, a.body, err)
		}
		all = append(all, page.Repositories...)
		if at = s.next(a); at == "" {
			return all
		}
		if !strings.HasPrefix(at, s.origin+s.api) {
			s.Fatalf("the next page is at '%s'", at)
		}
	}
	s.Fatal("the catalogue has no end")
	return nil
}

// TestObjectStorage: a client follows to the object storage, where nobody gets to know a credential.
func TestObjectStorage(t *testing.T) {
	s := loopback.New(t)
	r, storage := s.Redirecting()
	b := s.Berth(map[string]loopback.Connector{"registry": {Registry: r}})
	image, err := random.Image(100<<10, 3)
	s.OK(err)
	d := through(s, b, "registry", false)
	reference, err := name.ParseReference(strings.TrimPrefix(d.origin, "https://") + "/" + loopback.Below("registry") + "team/app:v1")
	s.OK(err)
	options := []remote.Option{
		remote.WithTransport(d.client.Transport), remote.WithContext(t.Context()),
		remote.WithAuth(&authn.Basic{Username: d.username, Password: d.password}),
	}
	s.OK(remote.Write(reference, image, options...))
	pulled, err := remote.Image(reference, options...)
	s.OK(err)
	s.OK(validate.Image(pulled))
	asked := storage()
	if len(asked) == 0 {
		t.Error("the object storage was asked nothing")
	}
	for _, request := range asked {
		if request.Scheme != "" || request.Status != http.StatusOK {
			t.Errorf("the object storage was asked with an Authorization of '%s': %v", request.Scheme, request)
		}
	}
}

// TestWrongDigest: bytes that are not those of the digest come to the client as they are, who finds out.
func TestWrongDigest(t *testing.T) {
	s := newStage(t)
	image, err := random.Image(1000, 1)
	s.OK(err)
	manifest, err := image.RawManifest()
	s.OK(err)
	r := &loopback.Registry{Username: username, Password: password, Address: s.Serve(knowing(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
			_, _ = w.Write(manifest)
			return
		}
		_, _ = w.Write(content(1, 1000))
	}))}
	b := s.Berth(map[string]loopback.Connector{"registry": {Registry: r}})
	d := through(s.Site, b, "registry", false)
	reference, err := name.ParseReference(strings.TrimPrefix(d.origin, "https://") + "/" + loopback.Below("registry") + "team/app:v1")
	s.OK(err)
	pulled, err := remote.Image(reference, remote.WithTransport(d.client.Transport), remote.WithContext(t.Context()),
		remote.WithAuth(&authn.Basic{Username: d.username, Password: d.password}))
	s.OK(err)
	if err := validate.Image(pulled); err == nil || !strings.Contains(err.Error(), "sha256") {
		t.Errorf("the client took other bytes than those of the digest: %v", err)
	}
}

// TestBase: whatever the registry, Berth is one itself.
func TestBase(t *testing.T) {
	s := loopback.New(t)
	b := s.Berth(map[string]loopback.Connector{"registry": {Registry: s.Basic()}})
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, plain := range []bool{false, true} {
			x := &session{T: t, door: through(s, b, "registry", plain)}
			a := x.do(method, x.origin+"/v2/", nil)
			if a.status != http.StatusOK || a.header.Get("Docker-Distribution-Api-Version") != "registry/2.0" {
				t.Errorf("%s: %d %v", method, a.status, a.header)
			}
		}
	}
}

// TestTooLarge: a registry answers before it has read what it does not take, and the client gets to know.
func TestTooLarge(t *testing.T) {
	s := loopback.New(t)
	r := s.Basic()
	b := s.Berth(map[string]loopback.Connector{"registry": {Registry: r}})
	for name, d := range map[string]*door{"straight": straight(s, r), "through Berth": through(s, b, "registry", false)} {
		x := &session{T: t, door: d}
		a := x.do(http.MethodPut, "app/manifests/v1", bytes.Repeat([]byte(" "), 5<<20), header("Content-Type", manifestType))
		if a.status != http.StatusBadRequest || code(a) != "MANIFEST_INVALID" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}
