package forward

import (
	"crypto/rand"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
)

const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// A client that only knows HTTP_PROXY and the authority pushes and pulls at Harbor's own address, without a login.
func TestPushAndPullWithoutALogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	image, err := random.Image(200_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	tag, _ := name.NewTag(harborHost + "/test/abc:v1")
	options := []remote.Option{remote.WithTransport(w.client("demo").Transport), remote.WithAuth(authn.Anonymous), remote.WithContext(t.Context())}
	if err := remote.Write(tag, image, options...); err != nil {
		t.Fatal(err)
	}
	other, _ := name.NewTag(harborHost + "/test/other:v1") // mounts what is there
	if err := remote.Write(other, image, options...); err != nil {
		t.Fatal(err)
	}
	back, err := remote.Image(tag, options...)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := image.Digest()
	if got, err := back.Digest(); got != want || err != nil {
		t.Errorf("digest %s, %v, want %s", got, err, want)
	}
	layers, _ := back.Layers()
	for _, layer := range layers {
		content, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, content); err != nil { // it verifies the digest
			t.Error(err)
		}
	}
	if tags, err := remote.List(tag.Repository, options...); err != nil || !slices.Equal(tags, []string{"v1"}) {
		t.Errorf("tags %v, %v", tags, err)
	}
}

func TestBothVersionsOfHTTPInside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, version := range []int{1, 2} {
		client := w.client("demo", func(t *http.Transport) {
			t.Protocols = &http.Protocols{}
			t.Protocols.SetHTTP1(version == 1)
			t.Protocols.SetHTTP2(version == 2)
		})
		a := w.get(client, "https://"+harborHost+"/v2/test/abc/manifests/v1")
		if a.ProtoMajor != version || a.StatusCode != http.StatusNotFound || !strings.Contains(a.body, "NAME_UNKNOWN") {
			t.Errorf("HTTP/%d: %s %d %s", version, a.Proto, a.StatusCode, a.body)
		}
		if a.Header.Get("Set-Cookie") != "" || a.Header.Get("Www-Authenticate") != "" {
			t.Errorf("what is Harbor's came down: %v", a.Header)
		}
	}
}

// Who may do what, and what Harbor saw of it.
func TestAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type answer struct {
		status int
		reason string // in the log
		harbor int    // requests that it saw
	}
	const base = "https://" + harborHost
	for name, tc := range map[string]struct {
		namespace, method, path string
		want                    answer
	}{
		"ping":                                   {"demo", "GET", "/v2/", answer{200, "", 0}},
		"ping without the slash":                 {"demo", "HEAD", "/v2", answer{200, "", 0}},
		"ping by POST":                           {"demo", "POST", "/v2/", answer{405, ReasonUnsupported, 0}},
		"pull":                                   {"demo", "GET", "/v2/any/abc/manifests/v1", answer{404, "", 1}},
		"pull, granted":                          {"team", "GET", "/v2/test/abc/manifests/v1", answer{404, "", 1}},
		"pull, another repository":               {"team", "GET", "/v2/any/abc/manifests/v1", answer{403, ReasonRepositoryRefused, 0}},
		"push, granted to pull":                  {"team", "POST", "/v2/test/abc/blobs/uploads/", answer{403, ReasonActionRefused, 0}},
		"push, granted":                          {"team", "POST", "/v2/pushed/abc/blobs/uploads/", answer{202, "", 1}},
		"delete":                                 {"demo", "DELETE", "/v2/test/abc/manifests/v1", answer{403, ReasonActionRefused, 0}},
		"a method that is none there":            {"demo", "PATCH", "/v2/test/abc/manifests/v1", answer{405, ReasonUnsupported, 0}},
		"the token service":                      {"demo", "GET", "/service/token?service=harbor-registry&scope=repository:test/abc:pull", answer{403, ReasonTokenService, 0}},
		"another token service":                  {"demo", "GET", "/v2/token?scope=x", answer{403, ReasonTokenService, 0}},
		"the login":                              {"demo", "POST", "/c/login", answer{403, ReasonPathInvalid, 0}},
		"robots":                                 {"demo", "POST", "/api/v2.0/robots", answer{403, ReasonPathInvalid, 0}},
		"users":                                  {"demo", "GET", "/api/v2.0/users/current", answer{403, ReasonAPIClosed, 0}},
		"replication policies":                   {"demo", "GET", "/api/v2.0/replication/policies", answer{403, ReasonPathInvalid, 0}},
		"the catalogue, by POST":                 {"demo", "POST", "/v2/_catalog", answer{403, ReasonPathInvalid, 0}},
		"a dot segment":                          {"demo", "GET", "/v2/test/../../api/v2.0/users", answer{403, ReasonPathInvalid, 0}},
		"an encoded dot segment":                 {"demo", "GET", "/v2/test/%2e%2e/%2e%2e/api/v2.0/users/manifests/v1", answer{403, ReasonPathInvalid, 0}},
		"an encoded slash":                       {"demo", "GET", "/v2/test%2fabc/manifests/v1", answer{403, ReasonPathInvalid, 0}},
		"two slashes, which is another host":     {"demo", "GET", "//v2/test/abc/manifests/v1", answer{421, ReasonHostMismatch, 0}},
		"a path that only looks like the others": {"demo", "GET", "/v2/test/abc/manifests/v1/../../../../api/v2.0/users", answer{403, ReasonPathInvalid, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			w.harbor.seen()
			before := strings.Count(w.log.String(), "\n")
			client := w.client(tc.namespace)
			r, _ := http.NewRequestWithContext(t.Context(), tc.method, base, nil)
			r.URL.Opaque, r.URL.Path = tc.path, "" // as it is
			if i := strings.IndexByte(tc.path, '?'); i >= 0 {
				r.URL.Opaque, r.URL.RawQuery = tc.path[:i], tc.path[i+1:]
			}
			response, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			w.leaks(answered{response, string(body)})
			if !eventually(func() bool { return strings.Count(w.log.String(), "\n") > before }) {
				t.Fatal("there is no line in the log")
			}
			all := strings.Split(strings.TrimSpace(w.log.String()), "\n")
			reason := ""
			if _, after, ok := strings.Cut(all[len(all)-1], `"reason":"`); ok {
				reason, _, _ = strings.Cut(after, `"`)
			}
			got := answer{response.StatusCode, reason, len(w.harbor.seen())}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(answer{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Who may not use the Connector talks to Harbor itself, as if Berth knew no credential, and its own login works.
func TestStrangersAreTunnelledUntouched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := w.client("stranger")
	a := w.get(client, "https://"+harborHost+"/v2/")
	if a.StatusCode != http.StatusUnauthorized || a.Header.Get("Www-Authenticate") == "" {
		t.Errorf("status %d, %v: this must be Harbor's own answer", a.StatusCode, a.Header)
	}
	if issuer := a.TLS.PeerCertificates[0].Issuer.CommonName; issuer != "far" {
		t.Errorf("the certificate is of '%s'", issuer)
	}
	a = w.do(client, http.MethodGet, "https://"+harborHost+"/api/v2.0/users/current", nil, func(r *http.Request) { r.SetBasicAuth("own", "own-password") })
	if a.StatusCode != http.StatusOK {
		t.Errorf("with a login of its own: %d", a.StatusCode)
	}
	if own := w.get(w.client("demo"), "https://"+harborHost+"/v2/"); own.TLS.PeerCertificates[0].Issuer.CommonName == "far" {
		t.Error("who may use the Connector is not intercepted")
	}
}

// A login of the client's own is sent as it is, with no credential of Berth's beside it, and nothing is asked of the rules.
func TestOwnLoginIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := w.client("demo")
	for path, login := range map[string][2]string{
		"/service/token?service=harbor": {"own", "own-password"}, "/api/v2.0/users/current": {"own", "own-password"}, "/v2/any/abc/manifests/v1": {"other", "wrong"},
	} {
		w.harbor.seen()
		a := w.do(client, http.MethodGet, "https://"+harborHost+path, nil, func(r *http.Request) {
			r.SetBasicAuth(login[0], login[1])
			r.Header.Set("Cookie", "own=1")
		})
		seen := w.harbor.seen()
		if len(seen) != 1 {
			t.Fatalf("%s: %d requests", path, len(seen))
		}
		user, pass, _ := seen[0].BasicAuth()
		if [2]string{user, pass} != login || seen[0].Header.Get("Cookie") != "own=1" || seen[0].Header.Get("Proxy-Authorization") != "" {
			t.Errorf("%s: Harbor saw %v", path, seen[0].Header)
		}
		if wrong := login[0] == "other"; wrong != (a.StatusCode == http.StatusUnauthorized) || wrong && a.Header.Get("Www-Authenticate") == "" {
			t.Errorf("%s: status %d, %v", path, a.StatusCode, a.Header)
		}
	}
}

// Connectors count as for images: own and trusted ones, and others only by name.
func TestTrust(t *testing.T) {
	t.Parallel()
	all := func(c *v1alpha1.Connector) {
		c.Spec.Access = []v1alpha1.AccessRule{{Namespaces: v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromAll}}}
	}
	for name, tc := range map[string]struct {
		owner, user string
		intercepted bool
	}{
		"own":                       {owner: "stranger", user: "berth", intercepted: true},
		"own, any user":             {owner: "stranger", user: "anyone", intercepted: true},
		"trusted":                   {owner: v1alpha1.SystemNamespace, user: "berth", intercepted: true},
		"foreign":                   {owner: "foreign", user: "berth"},
		"foreign, named":            {owner: "foreign", user: "foreign/other", intercepted: true},
		"foreign, named as in URLs": {owner: "foreign", user: "foreign%2Fother", intercepted: true},
		"foreign, among others":     {owner: "foreign", user: "a%2Fb,foreign%2fother", intercepted: true},
		"another is named":          {owner: "foreign", user: "foreign/another"},
		"own, another is named":     {owner: "stranger", user: "foreign/another"},
		"own, by its name":          {owner: "stranger", user: "other", intercepted: true},
		"nonsense is named":         {owner: "foreign", user: "foreign/../other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.catalogue.Delete(named("demo", "harbor"))
			w.connect(tc.owner, "other", "https://"+harborHost, all)
			a := w.get(w.clientAs(tc.user, w.token("stranger")), "https://"+harborHost+"/v2/")
			if intercepted := a.TLS.PeerCertificates[0].Issuer.CommonName != "far"; intercepted != tc.intercepted {
				t.Errorf("intercepted: %t, want %t", intercepted, tc.intercepted)
			}
		})
	}
}

// Several Connectors on one host: the request's repository decides whose credential goes with it.
func TestTheCredentialIsChosenByRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.secrets.put("demo", "second", "kubernetes.io/basic-auth", map[string][]byte{"username": []byte("own"), "password": []byte("own-password")})
	w.connect("demo", "a-second", "https://"+harborHost, func(c *v1alpha1.Connector) {
		c.Spec.Auth.SecretRef.Name = "second"
		c.Spec.Access = []v1alpha1.AccessRule{{Repositories: []string{"second/**"}}}
	})
	client := w.client("demo")
	for path, want := range map[string]string{"/v2/second/abc/manifests/v1": "own", "/v2/first/abc/manifests/v1": username} {
		w.harbor.seen()
		w.get(client, "https://"+harborHost+path)
		seen := w.harbor.seen()
		if user, _, _ := seen[0].BasicAuth(); user != want {
			t.Errorf("%s: the credential of '%s', want that of '%s'", path, user, want)
		}
	}
}

func TestExtensionsAndPlainAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connect("demo", "extended", "https://other.example.com", func(c *v1alpha1.Connector) {
		c.Spec.AddressExtensions = []v1alpha1.AddressExtension{{Name: "notary", Value: "https://notary.example.com"}}
	})
	w.connect("demo", "mirror", "http://mirror.example.com")
	w.connect("demo", "address", "https://10.9.9.9")
	client := w.client("demo")
	for _, address := range []string{"https://notary.example.com", "http://mirror.example.com", "https://10.9.9.9"} {
		w.harbor.seen()
		a := w.get(client, address+"/v2/test/abc/manifests/v1")
		seen := w.harbor.seen()
		if a.StatusCode != http.StatusNotFound || len(seen) != 1 {
			t.Errorf("%s: %d %s, %d requests", address, a.StatusCode, a.body, len(seen))
			continue
		}
		if user, _, _ := seen[0].BasicAuth(); user != username {
			t.Errorf("%s: without the credential", address)
		}
	}
	w.wire.forget("bytes to mirror.example.com:80") // the address says 'http': its owner sends the credential in clear
	w.wire.forget("bytes from mirror.example.com:80")
}

// crane dials Docker Hub as index.docker.io, others as registry-1.docker.io; to both goes the Connector's credential.
func TestDockerHubByEitherName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connect("demo", "hub", "https://docker.io")
	w.net.to["registry-1.docker.io:443"] = w.harbor.address()
	for _, host := range []string{"index.docker.io", "registry-1.docker.io"} {
		w.harbor.seen()
		a := w.get(w.client("demo"), "https://"+host+"/v2/library/abc/manifests/v1")
		if seen := w.harbor.seen(); a.StatusCode != http.StatusNotFound || len(seen) != 1 || seen[0].Host != "registry-1.docker.io" {
			t.Errorf("%s: %d %s, and Docker Hub saw %v", host, a.StatusCode, a.body, seen)
		}
	}
}

func TestOtherHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := w.client("demo")
	if a := w.get(client, "https://"+evilHost+"/x"); a.StatusCode != 200 || a.body != "evil" {
		t.Errorf("tunnel: %d %s", a.StatusCode, a.body)
	}
	a := w.do(client, http.MethodPost, "http://plain.example.net/x?y", strings.NewReader("hello"), func(r *http.Request) {
		r.Header.Set("Authorization", "Basic b3duOm93bg==")
		r.Header.Set("Connection", "X-Hop")
		r.Header.Set("X-Hop", "1")
		r.Header.Set("Accept-Encoding", "br")
	})
	if a.StatusCode != 200 || a.body != "evil" {
		t.Errorf("plain: %d %s", a.StatusCode, a.body)
	}
	seen := w.evil.seen()
	last := seen[len(seen)-1]
	if h := last.Header; last.RequestURI != "/x?y" || last.Host != "plain.example.net" || h.Get("Authorization") == "" || h.Get("X-Hop") != "" || h.Get("Accept-Encoding") != "br" {
		t.Errorf("the other server saw %s %s %v", last.Host, last.RequestURI, h)
	}
}

// A mount from where the caller may not pull becomes an ordinary upload.
func TestMountIsAPull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for query, want := range map[string]string{
		"mount=" + digest + "&from=test/other":             "from=test%2Fother&mount=" + strings.ReplaceAll(digest, ":", "%3A"),
		"mount=" + digest + "&from=secret/app":             "",
		"mount=" + digest + "&from=test/a&from=secret/app": "",
		"mount=" + digest + "&from=test/../secret":         "",
		"mount=latest&from=test/other":                     "",
		"mount=" + digest + ";from=secret/app":             "",
		"digest=" + digest + "&ns=x":                       "digest=" + strings.ReplaceAll(digest, ":", "%3A"),
	} {
		w.harbor.seen()
		w.do(w.client("team"), http.MethodPost, "https://"+harborHost+"/v2/pushed/abc/blobs/uploads/?"+query, nil)
		seen := w.harbor.seen()
		if len(seen) != 1 || seen[0].URL.RawQuery != want {
			t.Errorf("%s: Harbor saw %d, '%s', want '%s'", query, len(seen), seen[0].URL.RawQuery, want)
		}
	}
}

// The server's own API is open as far as the class lists it and the rules grant `api`; what would hand out credentials never.
func TestAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	class, err := access.NewClass(&v1alpha1.ConnectorClass{ObjectMeta: metav1.ObjectMeta{Name: "harbor"}, Spec: v1alpha1.ConnectorClassSpec{API: []v1alpha1.ClassAPI{{Paths: []string{"/api/v2.0/**", "/service/**", "/c/**"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	w.catalogue.PutClass(class)
	w.connect("demo", "harbor", "https://"+harborHost, func(c *v1alpha1.Connector) {
		c.Spec.ConnectorClassName = "harbor"
		c.Spec.Access = []v1alpha1.AccessRule{{Actions: []v1alpha1.Action{v1alpha1.ActionAPI, v1alpha1.ActionPull}}, {Namespaces: labelled("team", "payments")}}
	})
	w.harbor.answer(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Harbor-Csrf-Token", "session")
		_, _ = io.WriteString(rw, `{"username":"robot","oidc_user_meta":{"secret":"`+password+`"},"path":"`+r.RequestURI+`"}`)
	})
	for _, tc := range []struct {
		namespace, method, path string
		status                  int
		body                    string
	}{
		{"demo", "GET", "/api/v2.0/users/current", 200, `{"username":"robot"}`},
		{"demo", "POST", "/api/v2.0/projects", 403, ReasonAPIClosed},
		{"demo", "GET", "/api/v2.0/robots", 403, ""},
		{"demo", "GET", "/api/v2.0/replication/policies", 403, ""},
		{"demo", "GET", "/service/token?service=harbor-registry", 403, ""},
		{"demo", "GET", "/c/login", 403, ""},
		{"demo", "GET", "/api/v2.0/../../service/token", 403, ""},
		{"team", "GET", "/api/v2.0/projects", 403, ""},
	} {
		w.harbor.seen()
		a := w.inside(tc.namespace, tc.method+" "+tc.path+" HTTP/1.1\r\nHost: harbor.example.com\r\nContent-Length: 0\r\n\r\n")
		if a.StatusCode != tc.status || tc.status == 200 && a.body != tc.body || a.Header.Get("X-Harbor-Csrf-Token") != "" {
			t.Errorf("%s %s of '%s': %d %s %v", tc.method, tc.path, tc.namespace, a.StatusCode, a.body, a.Header)
		}
		if n := len(w.harbor.seen()); n != map[bool]int{true: 1}[tc.status == 200] {
			t.Errorf("%s %s: Harbor saw %d requests", tc.method, tc.path, n)
		}
	}
}

func TestTheCatalogueIsFiltered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.harbor.answer(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(rw, `{"repositories":["test/abc","secret/app","../x","test/b/c"]}`)
	})
	if a := w.get(w.client("team"), "https://"+harborHost+"/v2/_catalog?n=4"); a.body != `{"repositories":["test/abc","test/b/c"]}` {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// Leaves are minted once for each host, however many ask at once.
func TestLeavesAreMintedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	serials := map[string]bool{}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			status, c := w.dial("demo", harborAt)
			secured, err := w.secure(c, harborHost)
			if status != 200 || err != nil {
				t.Errorf("%d %v", status, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			serials[secured.ConnectionState().PeerCertificates[0].SerialNumber.String()] = true
		})
	}
	all.Wait()
	if len(serials) != 1 {
		t.Errorf("%d certificates", len(serials))
	}
}

// A body goes both ways whole, also where nobody knows its length.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := make([]byte, 5<<20)
	_, _ = rand.Read(content)
	w.harbor.answer(func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(got)
	})
	for _, expect := range []string{"", "100-continue"} {
		a := w.do(w.client("demo"), http.MethodPatch, "https://"+harborHost+"/v2/test/abc/blobs/uploads/1", io.LimitReader(strings.NewReader(string(content)), int64(len(content))), func(r *http.Request) {
			if expect != "" {
				r.Header.Set("Expect", expect)
			}
		})
		if a.StatusCode != http.StatusAccepted || a.body != string(content) {
			t.Errorf("Expect '%s': status %d, %d bytes came back", expect, a.StatusCode, len(a.body))
		}
	}
}
