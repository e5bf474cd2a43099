package upstream

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
	"berth.dev/berth/proxy/credential"
)

// tokenRegistry is a registry with a token service of its own, which counts what happens.
type tokenRegistry struct {
	server *httptest.Server

	mu       sync.Mutex
	password string
	life     int             // of a token, in seconds
	tokens   map[string]bool // the good ones
	denied   string          // a scope that the token service grants nothing of, but gives a token for
	demand   string          // a scope that the registry wants, whatever the request is
	asked    []string        // of the token service: 'user scope …'
	refused  int             // passwords
	revoked  bool            // tokens were, and the registry says so
	handler  http.HandlerFunc
	withBody func(http.ResponseWriter, *http.Request) // looks at a request before the token is looked at
}

func newTokenRegistry(t testing.TB) (*tokenRegistry, *access.Connector, *secrets) {
	t.Helper()
	f := &tokenRegistry{password: "hunter2", life: 300, tokens: map[string]bool{}}
	server, c, held := start(t, f.serve)
	f.server = server
	return f, c, held
}

func (f *tokenRegistry) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		f.issue(w, r)
		return
	}
	if f.withBody != nil {
		f.withBody(w, r)
	}
	if !f.opens(r) {
		w.Header().Set("Www-Authenticate", f.challenge(r))
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "the registry's own words")
		return
	}
	if f.handler != nil {
		f.handler(w, r)
	}
}

func (f *tokenRegistry) challenge(r *http.Request) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	challenge := fmt.Sprintf(`Bearer realm="%s/token",service="far",scope="%s"`, f.server.URL, cmp.Or(f.demand, f.denied, "repository:a:pull"))
	if f.revoked && r.Header.Get("Authorization") != "" {
		challenge += `,error="invalid_token"`
	}
	return challenge
}

func (f *tokenRegistry) issue(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, password, ok := r.BasicAuth()
	scopes := strings.Join(r.URL.Query()["scope"], " ")
	f.asked = append(f.asked, user+" "+scopes)
	if ok && password != f.password {
		f.refused++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	token := fmt.Sprintf("token-%d", len(f.asked))
	f.tokens[token] = scopes != f.denied || f.denied == ""
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": f.life})
}

// opens reports whether the request has a good token, of the scope that is demanded if one is.
func (f *tokenRegistry) opens(r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !f.tokens[token] {
		return false
	}
	var n int
	_, _ = fmt.Sscanf(token, "token-%d", &n)
	if f.demand != "" && !strings.HasSuffix(f.asked[n-1], " "+f.demand) {
		return false
	}
	return true
}

// revoke makes every token worthless.
func (f *tokenRegistry) revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
	f.revoked = true
}

func (f *tokenRegistry) demandPassword(password string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.password = password
}

func (f *tokenRegistry) exchanges() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

func rotate(held *secrets, version, password string) {
	held.put("login", version, corev1.SecretTypeBasicAuth, map[string][]byte{"username": []byte("robot"), "password": []byte(password)})
}

// ask makes a GET, and returns its status, or the reason why there is none.
func ask(t testing.TB, u *Registries, c *access.Connector, scopes ...bearer.Scope) string {
	t.Helper()
	return outcome(u.RoundTrip(c, request(t, http.MethodGet, nil), scopes...))
}

func outcome(response *http.Response, err error) string {
	if err == nil {
		finish(response)
		return http.StatusText(response.StatusCode)
	}
	if far, ok := errors.AsType[*Error](err); ok {
		return far.Reason
	}
	return err.Error()
}

func registries(held *secrets) *Registries {
	return New(credential.NewSource(held), &net.Dialer{}, Timeouts{})
}

func TestTokenIsExchangedOnceForEachScope(t *testing.T) {
	t.Parallel()
	f, c, held := newTokenRegistry(t)
	u := registries(held)
	pull, push := bearer.Repository("a", bearer.Pull), bearer.Repository("a", bearer.Pull, bearer.Push)
	for range 3 {
		for _, scopes := range [][]bearer.Scope{{pull}, {push}, {push, bearer.Repository("b", bearer.Pull)}} {
			if got := ask(t, u, c, scopes...); got != "OK" {
				t.Fatal(got)
			}
		}
	}
	want := []string{"robot repository:a:pull", "robot repository:a:pull,push", "robot repository:a:pull,push repository:b:pull"}
	if got := f.exchanges(); !slices.Equal(got, want) {
		t.Errorf("exchanges: %q, want %q", got, want)
	}
	u.Forget(c.UID)
	if got := ask(t, u, c, pull); got != "OK" || len(f.exchanges()) != 4 {
		t.Errorf("forgotten, and yet known: %s, %q", got, f.exchanges())
	}
}

func TestAnonymousToken(t *testing.T) {
	t.Parallel()
	f, c, held := newTokenRegistry(t)
	spec := *c.Spec
	spec.Auth = nil
	c.Spec = &spec
	u := registries(held)
	if got := ask(t, u, c, bearer.Repository("a", bearer.Pull)); got != "OK" {
		t.Fatal(got)
	}
	if got := f.exchanges(); !slices.Equal(got, []string{" repository:a:pull"}) {
		t.Errorf("exchanges: %q", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	pull := bearer.Repository("a", bearer.Pull)
	for name, test := range map[string]struct {
		change    func(*tokenRegistry)
		scopes    []bearer.Scope
		want      string
		exchanges int
	}{
		"token was revoked":       {func(f *tokenRegistry) { f.revoke() }, []bearer.Scope{pull}, "OK", 2},
		"granted nothing":         {func(f *tokenRegistry) { f.denied = "repository:b:pull" }, []bearer.Scope{bearer.Repository("b", bearer.Pull)}, v1alpha1.ReasonRegistryDenied, 2},
		"wants another scope":     {func(f *tokenRegistry) { f.demand = "registry:catalog:*" }, []bearer.Scope{pull}, "OK", 2},
		"told no scope":           {func(f *tokenRegistry) { f.demand = "registry:catalog:*" }, nil, "OK", 2},
		"the catalog":             {func(f *tokenRegistry) { f.demand = "registry:catalog:*" }, []bearer.Scope{bearer.Catalog()}, "OK", 2},
		"forbids":                 {func(f *tokenRegistry) { f.handler = answer(403) }, []bearer.Scope{pull}, v1alpha1.ReasonRegistryDenied, 1},
		"wrong password":          {func(f *tokenRegistry) { f.demandPassword("other") }, []bearer.Scope{bearer.Repository("b", bearer.Pull)}, v1alpha1.ReasonCredentialRefused, 2},
		"answers something else":  {func(f *tokenRegistry) { f.handler = answer(404) }, []bearer.Scope{pull}, "Not Found", 1},
		"fails as any other does": {func(f *tokenRegistry) { f.handler = answer(503) }, []bearer.Scope{pull}, "Service Unavailable", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, c, held := newTokenRegistry(t)
			u := registries(held)
			if got := ask(t, u, c, pull); got != "OK" {
				t.Fatal(got)
			}
			test.change(f)
			if got := ask(t, u, c, test.scopes...); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if got := f.exchanges(); len(got) != test.exchanges {
				t.Errorf("exchanges: %q, want %d", got, test.exchanges)
			}
		})
	}
}

func answer(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// TestNothingOfTheRegistryLeaks: neither token nor challenge nor words come down, in an answer or in an error.
func TestNothingOfTheRegistryLeaks(t *testing.T) {
	t.Parallel()
	f, c, held := newTokenRegistry(t)
	f.handler = func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		for _, name := range []string{"Authorization", "Www-Authenticate", "Set-Cookie", "X-Auth-Token", "X-Whatever", "Location", "Docker-Distribution-Api-Version"} {
			w.Header().Set(name, "Bearer "+token)
		}
		w.Header().Set("Docker-Content-Digest", "sha256:0")
	}
	u := registries(held)
	response, err := u.RoundTrip(c, request(t, http.MethodGet, nil), bearer.Repository("a", bearer.Pull))
	if err != nil {
		t.Fatal(err)
	}
	finish(response)
	if text := fmt.Sprint(response.Header); strings.Contains(text, "token-1") || response.Header.Get("Docker-Content-Digest") == "" {
		t.Errorf("header: %s", text)
	}
	f.revoke()
	f.denied = "repository:a:pull"
	_, err = u.RoundTrip(c, request(t, http.MethodGet, nil), bearer.Repository("a", bearer.Pull))
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, word := range []string{"token-", "own words", "/token", "hunter2", "cm9ib3Q"} {
			if strings.Contains(e.Error(), word) {
				t.Errorf("the error holds '%s': %v", word, e)
			}
		}
	}
	if err == nil {
		t.Error("a request that is not granted has an answer")
	}
}

// TestRotatingCredential: the registry changes its password a moment before the Secret does, and tokens end with it.
func TestRotatingCredential(t *testing.T) {
	t.Parallel()
	for name, scopes := range map[string][]bearer.Scope{
		"token":             {bearer.Repository("a", bearer.Pull)},
		"credential itself": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, c, held := newTokenRegistry(t)
			if scopes == nil {
				basicOnly(f)
			}
			u := registries(held)
			const requests, workers, rotations = 1000, 16, 5
			var done, rotated atomic.Int32
			var since [workers]atomic.Int32 // the rotations before the request that a worker makes
			var asking sync.WaitGroup
			for worker := range workers {
				asking.Go(func() {
					defer since[worker].Store(rotations)
					for done.Add(1) <= requests {
						since[worker].Store(rotated.Load())
						if got := ask(t, u, c, scopes...); got != "OK" {
							t.Errorf("a client sees: %s", got)
							return
						}
					}
				})
			}
			for n := int32(1); n <= rotations; n++ {
				until(t, func() bool { return done.Load() >= n*requests/(rotations+1) })
				for worker := range workers { // no request sees two rotations
					until(t, func() bool { return since[worker].Load() >= n-1 })
				}
				f.demandPassword(fmt.Sprintf("password-%d", n))
				f.revoke()
				before := f.refusals()
				until(t, func() bool { return f.refusals() > before || done.Load() > requests }) // the Secret is late
				rotate(held, fmt.Sprint(n+1), fmt.Sprintf("password-%d", n))
				rotated.Store(n)
			}
			asking.Wait()
		})
	}
}

// until waits for a condition.
func until(t *testing.T, condition func() bool) {
	t.Helper()
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	for !condition() && !t.Failed() {
		<-ticks.C
	}
}

func (f *tokenRegistry) refusals() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused
}

// basicOnly makes the registry want the password with each request.
func basicOnly(f *tokenRegistry) {
	f.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if _, password, ok := r.BasicAuth(); password != f.password {
			if ok {
				f.refused++
			}
			w.Header().Set("Www-Authenticate", `Basic realm="far"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
}

// TestRefusedCredentialFailsAtOnce: what was waited for once is not waited for again.
func TestRefusedCredentialFailsAtOnce(t *testing.T) {
	t.Parallel()
	for name, scopes := range map[string][]bearer.Scope{"token": {bearer.Repository("a", bearer.Pull)}, "credential itself": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, c, held := newTokenRegistry(t)
			if scopes == nil {
				basicOnly(f)
			}
			f.demandPassword("other")
			u := registries(held)
			if got := ask(t, u, c, scopes...); got != v1alpha1.ReasonCredentialRefused {
				t.Fatal(got)
			}
			begun := time.Now()
			for range 20 { // a second each, if it were waited for
				if got := ask(t, u, c, scopes...); got != v1alpha1.ReasonCredentialRefused {
					t.Fatal(got)
				}
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("20 requests took %s", took)
			}
			if scopes != nil && len(f.exchanges()) > 4 {
				t.Errorf("%d attempts within seconds: the account may be locked", len(f.exchanges()))
			}
			rotate(held, "2", "other")
			if got := ask(t, u, c, scopes...); got != "OK" {
				t.Errorf("after the Secret changed: %s", got)
			}
		})
	}
}
