package conformance_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"berth.dev/berth/test/loopback"
)

const (
	username = "robot$berth"
	password = "MARKER-of-the-password"
	issued   = "MARKER-of-a-token-of-the-registry"
)

// secrets are what must go to the registry alone.
func secrets() []string {
	return []string{password, issued, base64.StdEncoding.EncodeToString([]byte(username + ":" + password))}
}

// trap is a server that nobody should send anything to.
type trap struct {
	mu   sync.Mutex
	seen []string
}

// ServeHTTP implements http.Handler; it offers what who comes here may hope for.
func (p *trap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, fmt.Sprintf("%s %s with Authorization '%s'", r.Method, r.URL, r.Header.Get("Authorization")))
	_, _ = io.WriteString(w, `{"token":"`+issued+`"}`)
}

// caught is what was sent there.
func (p *trap) caught() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// stage is where a hostile registry has its servers.
type stage struct {
	*loopback.Site

	trap *trap
	// plain is the trap over HTTP, and elsewhere the trap at another loopback address over TLS.
	plain, elsewhere string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{Site: loopback.New(t), trap: &trap{}}
	plain := httptest.NewServer(s.trap)
	t.Cleanup(plain.Close)
	s.plain = plain.URL
	s.elsewhere = s.ServeAt("127.0.0.2:0", s.trap)
	return s
}

// challenging answers who has no token with a challenge that leads to a realm.
func challenging(realm string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+issued {
			_, _ = io.WriteString(w, "{}")
			return
		}
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="hostile",scope="repository:app:pull"`, realm))
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
	}
}

// knowing lets in who has the password, and answers others as registries do.
func knowing(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			w.Header().Set("Www-Authenticate", `Basic realm="hostile"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path != "/v2/" {
			h(w, r)
		}
	}
}

// TestHostile: what a registry does that means ill, or is broken, and what comes of it.
func TestHostile(t *testing.T) {
	blob := digest([]byte("the blob"))
	const manifest = "app/manifests/v1"
	for name, tc := range map[string]struct {
		registry func(*stage) http.HandlerFunc
		path     string // below the Connector
		status   int
		code     string // of the envelope
		broken   bool   // the client sees that the answer ended too early
		location string
	}{
		"a token service over plain HTTP": {
			registry: func(s *stage) http.HandlerFunc { return challenging(s.plain + "/token") },
			path:     manifest, status: http.StatusBadGateway, code: "UNKNOWN",
		},
		"a token service at another private address": {
			registry: func(s *stage) http.HandlerFunc { return challenging(s.elsewhere + "/token") },
			path:     manifest, status: http.StatusBadGateway, code: "UNKNOWN",
		},
		"a token service that is a metadata service": {
			registry: func(*stage) http.HandlerFunc { return challenging("https://169.254.169.254/token") },
			path:     manifest, status: http.StatusBadGateway, code: "UNKNOWN",
		},
		"a token service that leads to another one": {
			registry: func(s *stage) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/token" {
						http.Redirect(w, r, s.elsewhere+"/token", http.StatusTemporaryRedirect)
						return
					}
					challenging("https://"+r.Host+"/token")(w, r)
				}
			},
			path: manifest, status: http.StatusBadGateway, code: "UNKNOWN",
		},
		"a blob that is at a metadata service": {
			registry: func(*stage) http.HandlerFunc {
				return knowing(func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusTemporaryRedirect)
				})
			},
			path: "app/blobs/" + blob, status: http.StatusTemporaryRedirect, location: "http://169.254.169.254/latest/meta-data/",
		},
		"a manifest that is somewhere else": {
			registry: func(s *stage) http.HandlerFunc {
				return knowing(func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, s.elsewhere+"/manifest", http.StatusTemporaryRedirect)
				})
			},
			path: manifest, status: http.StatusTemporaryRedirect, location: "{elsewhere}/manifest",
		},
		"a blob that is shorter than announced": {
			registry: func(*stage) http.HandlerFunc {
				return knowing(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Length", "100000")
					_, _ = w.Write(content(1, 50000))
				})
			},
			path: "app/blobs/" + blob, status: http.StatusOK, broken: true,
		},
		"a blob whose connection is reset": {
			registry: func(*stage) http.HandlerFunc {
				return knowing(func(w http.ResponseWriter, _ *http.Request) {
					_, _ = w.Write(content(1, 50000)) // in chunks, so that nobody knows what is missing
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				})
			},
			path: "app/blobs/" + blob, status: http.StatusOK, broken: true,
		},
		"a registry that resets connections": {
			registry: func(*stage) http.HandlerFunc {
				return func(w http.ResponseWriter, _ *http.Request) {
					connection, _, err := http.NewResponseController(w).Hijack()
					if err == nil {
						_ = connection.Close()
					}
				}
			},
			path: manifest, status: http.StatusBadGateway, code: "UNKNOWN",
		},
		"a password that is refused": {
			registry: func(*stage) http.HandlerFunc {
				return func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Www-Authenticate", `Basic realm="`+password+`"`)
					http.Error(w, password, http.StatusUnauthorized)
				}
			},
			path: manifest, status: http.StatusBadGateway, code: "UNKNOWN",
		},
		"cookies and tokens for the client": {
			registry: func(*stage) http.HandlerFunc {
				return knowing(func(w http.ResponseWriter, _ *http.Request) {
					for _, name := range []string{"Set-Cookie", "Authorization", "Www-Authenticate", "Proxy-Authenticate", "Authentication-Info", "X-Harbor-Csrf-Token"} {
						w.Header().Set(name, "sid="+issued)
					}
				})
			},
			path: manifest, status: http.StatusOK,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			a, log := s.ask(tc.registry(s), tc.path)
			if a.status != tc.status || code(a) != tc.code || (a.broken != nil) != tc.broken {
				t.Errorf("got %d %s broken %t, want %d %s broken %t\n%s", a.status, code(a), a.broken != nil, tc.status, tc.code, tc.broken, a.body)
			}
			if want := strings.ReplaceAll(tc.location, "{elsewhere}", s.elsewhere); a.header.Get("Location") != want {
				t.Errorf("the Location is '%s', want '%s'", a.header.Get("Location"), want)
			}
			if caught := s.trap.caught(); len(caught) > 0 {
				t.Errorf("another server was sent %s", caught)
			}
			for _, secret := range secrets() {
				if strings.Contains(fmt.Sprint(a.header, string(a.body)), secret) {
					t.Errorf("the client was sent '%s': %v %s", secret, a.header, a.body)
				}
				if strings.Contains(log, secret) {
					t.Errorf("the log has '%s':\n%s", secret, log)
				}
			}
		})
	}
}

// ask asks a registry that is made of a handler, through Berth, and returns what Berth has logged too.
func (s *stage) ask(h http.HandlerFunc, path string) (*answer, string) {
	s.Helper()
	r := &loopback.Registry{Address: s.Serve(h), Username: username, Password: password}
	b := s.Berth(map[string]loopback.Connector{"registry": {Registry: r}})
	d := through(s.Site, b, "registry", false)
	request, err := http.NewRequestWithContext(s.Context(), http.MethodGet, d.origin+d.api+path, nil)
	s.OK(err)
	a, err := d.send(request)
	s.OK(err)
	return a, b.Log()
}

// code is the first of an error envelope.
func code(a *answer) string {
	var envelope struct {
		Errors []struct{ Code string }
	}
	if json.Unmarshal(a.body, &envelope) != nil || len(envelope.Errors) == 0 {
		return ""
	}
	return envelope.Errors[0].Code
}

// TestSilent: a registry that takes connections and says nothing costs its clients a minute, and not more.
func TestSilent(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	s.OK(err)
	t.Cleanup(func() { _ = silent.Close() })
	r := &loopback.Registry{Address: "https://" + silent.Addr().String(), Username: username, Password: password}
	b := s.Berth(map[string]loopback.Connector{"registry": {Registry: r}})
	d := through(s.Site, b, "registry", false)
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, d.origin+d.api+"app/manifests/v1", nil)
	s.OK(err)
	a, err := d.send(request)
	s.OK(err)
	if a.status != http.StatusGatewayTimeout && a.status != http.StatusBadGateway {
		t.Errorf("got %d %s", a.status, a.body)
	}
}
