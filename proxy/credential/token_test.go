package credential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
)

// far is a registry with a token service, as a RoundTripper: there is no network, so time is the test's own.
type far struct {
	mu       sync.Mutex
	password string
	status   int           // of the token service, where the password is right; 0 is 200
	takes    time.Duration // the token service, for each request
	basic    bool          // there is no token service; what is asked for is /v2/ itself
	open     bool          // it answers /v2/ for everybody
	down     bool
	pings    int
	asked    []time.Time
	now, most,
	refused int // requests to the token service at a time
	issued int
}

func (f *far) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := httptest.NewRecorder()
	switch {
	case f.down:
		return nil, io.ErrUnexpectedEOF
	case r.URL.Path == "/main/v2/" && (!f.basic || r.Header.Get("Authorization") == ""):
		f.pings++
		if r.Header.Get("Authorization") != "" {
			return nil, errors.New("the ping carries a credential")
		}
		if f.open {
			break
		}
		if !f.basic {
			answer.Header().Set("Www-Authenticate", `Bearer realm="https://auth.example.com/token",service="far"`)
		}
		answer.WriteHeader(http.StatusUnauthorized)
	default:
		f.asked = append(f.asked, time.Now())
		f.now++
		f.most = max(f.most, f.now)
		f.mu.Unlock()
		select {
		case <-time.After(f.takes):
		case <-r.Context().Done():
		}
		f.mu.Lock()
		f.now--
		if r.Context().Err() != nil {
			return nil, r.Context().Err()
		}
		f.issue(answer, r)
	}
	return answer.Result(), nil
}

func (f *far) issue(answer *httptest.ResponseRecorder, r *http.Request) {
	_, password, _ := r.BasicAuth()
	switch {
	case password != f.password:
		f.refused++
		answer.WriteHeader(http.StatusUnauthorized)
	case f.status != 0:
		answer.WriteHeader(f.status)
	default:
		f.issued++
		_, _ = fmt.Fprintf(answer, `{"token":"token-%d","expires_in":100}`, f.issued)
	}
}

func (f *far) set(change func(*far)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *far) attempts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

// scene is a Connector of a registry with a token service.
type scene struct {
	*far
	*Source
	connector *access.Connector
	mu        sync.Mutex
	login     *corev1.Secret
}

func (s *scene) Get(context.Context, types.NamespacedName) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.login, nil
}

func (s *scene) rotate(version, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.login = made("login", version, corev1.SecretTypeBasicAuth, map[string][]byte{"username": []byte("robot"), "password": []byte(password)})
}

func newScene() *scene {
	spec := auth(v1alpha1.AuthBasic, "login")
	spec.Address = "https://registry.example.com/main"
	s := &scene{far: &far{password: "right"}, connector: connector(spec)}
	s.connector.Address, _ = url.Parse(spec.Address)
	s.connector.UID = "uid"
	s.Source = NewSource(s)
	s.rotate("1", "right")
	return s
}

// ask returns the Authorization header of a request, or the reason why there is none.
func (s *scene) ask(t testing.TB, scopes ...bearer.Scope) string {
	t.Helper()
	a, err := s.Authorize(t.Context(), s.connector, s.far, scopes)
	if e, ok := errors.AsType[*bearer.Error](err); ok {
		return e.Reason
	}
	if err != nil {
		return err.Error()
	}
	r := &http.Request{Header: http.Header{}}
	a.Authorize(r)
	return strings.Join(r.Header["Authorization"], "; ")
}

func (s *scene) want(t testing.TB, want string, attempts int, scopes ...bearer.Scope) {
	t.Helper()
	if got := s.ask(t, scopes...); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	synctest.Wait()
	if got := s.attempts(); got != attempts {
		t.Errorf("the token service was asked %d times, want %d", got, attempts)
	}
}

const (
	pull = bearer.Scope("repository:a:pull")
	push = bearer.Scope("repository:a:pull,push")
)

func TestTokenLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.want(t, "Bearer token-1", 1, pull)
		s.want(t, "Bearer token-1", 1, pull)
		s.want(t, "Bearer token-2", 2, push)
		time.Sleep(74 * time.Second) //nolint:forbidigo // the test's own time
		s.want(t, "Bearer token-1", 2, pull)
		time.Sleep(2 * time.Second)          //nolint:forbidigo // a quarter of its life is left
		s.want(t, "Bearer token-1", 3, pull) // and in the background another one comes
		s.want(t, "Bearer token-3", 3, pull)
		s.want(t, "Bearer token-3", 3, pull)
		s.Forget(s.connector.UID)
		s.want(t, "Bearer token-4", 4, pull)
		s.rotate("2", "right")
		s.want(t, "Bearer token-5", 5, pull)
	})
}

func TestTokenThatCannotBeRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.want(t, "Bearer token-1", 1, pull)
		s.set(func(f *far) { f.status = http.StatusServiceUnavailable })
		time.Sleep(80 * time.Second)         //nolint:forbidigo // the test's own time
		s.want(t, "Bearer token-1", 2, pull) // a request never waits while a token is good
		s.want(t, "Bearer token-1", 2, pull)
		time.Sleep(6 * time.Second) //nolint:forbidigo // the test's own time
		s.want(t, "Bearer token-1", 3, pull)
		time.Sleep(10 * time.Second) //nolint:forbidigo // 4 s are left: the request might come too late with it
		s.want(t, v1alpha1.ReasonServerError, 4, pull)
		s.set(func(f *far) { f.status = 0 })
		s.want(t, "Bearer token-2", 5, pull)
	})
}

func TestOneExchangeForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.takes = time.Second
		leaving, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { // the first one, which leaves
			if _, err := s.Authorize(leaving, s.connector, s.far, []bearer.Scope{pull}); !errors.Is(err, context.Canceled) {
				t.Errorf("%v for one who left", err)
			}
		})
		synctest.Wait()
		for range 50 {
			all.Go(func() {
				if got := s.ask(t, pull); got != "Bearer token-1" {
					t.Error(got)
				}
			})
		}
		synctest.Wait()
		leave()
		all.Wait()
		if s.attempts() != 1 || s.pings != 1 {
			t.Errorf("%d exchanges, %d pings", s.attempts(), s.pings)
		}
	})
}

// TestWrongPasswordDoesNotLockTheAccount: whoever asks for whatever.
func TestWrongPasswordDoesNotLockTheAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.takes = 10 * time.Millisecond
		s.rotate("1", "wrong")
		for range 600 { // a minute
			var all sync.WaitGroup
			for n := range 20 {
				all.Go(func() {
					if got := s.ask(t, bearer.Repository(fmt.Sprint(n), bearer.Pull)); got != v1alpha1.ReasonCredentialRefused {
						t.Error(got)
					}
				})
			}
			all.Wait()
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // the test's own time
		}
		if s.most != 1 || s.attempts() > 7 {
			t.Errorf("%d attempts, %d at a time", s.attempts(), s.most)
		}
		for i := 1; i < len(s.asked); i++ {
			if wait := s.asked[i].Sub(s.asked[i-1]); wait < time.Second<<(i-1) {
				t.Errorf("attempt %d after %s", i+1, wait)
			}
		}
		attempts := s.attempts()
		s.rotate("2", "right")
		s.want(t, "Bearer token-1", attempts+1, pull)
	})
}

const basic = "Basic cm9ib3Q6cmlnaHQ="

// TestWrongPasswordWithoutTokenService: what the registry refuses is tried no more by requests, and by one request for /v2/ at a time.
func TestWrongPasswordWithoutTokenService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.basic, s.takes = true, 10*time.Millisecond
		s.rotate("1", "wrong")
		var sent atomic.Int64
		for range 600 { // a minute
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					a, err := s.Authorize(t.Context(), s.connector, s.far, []bearer.Scope{pull})
					if err == nil {
						sent.Add(1)
						_, _, err = s.Again(t.Context(), s.connector, s.far, a, http.Header{}, nil)
					}
					if !errors.Is(err, ErrRefused) {
						t.Error(err)
					}
				})
			}
			all.Wait()
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // the test's own time
		}
		if s.most != 1 || s.attempts() > 7 || sent.Load() != 20 {
			t.Errorf("%d attempts, %d at a time, and %d requests, want those that set out before the first answer", s.attempts(), s.most, sent.Load())
		}
		attempts := s.attempts()
		s.want(t, ErrRefused.Error(), attempts)
		s.set(func(f *far) { f.password = "wrong" })
		time.Sleep(longestWait)                               //nolint:forbidigo // the test's own time
		s.want(t, "Basic cm9ib3Q6d3Jvbmc=", attempts+1, pull) // which is right now
		s.want(t, "Basic cm9ib3Q6d3Jvbmc=", attempts+1)
		s.set(func(f *far) { f.password = "right" })
		s.rotate("2", "right")
		s.want(t, basic, attempts+1, pull)
	})
}

// TestRegistryThatIsOpen: one that answers everybody cannot be asked whether a password is right.
func TestRegistryThatIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.basic, s.open = true, true
		for range 2 {
			a, err := s.Authorize(t.Context(), s.connector, s.far, []bearer.Scope{pull})
			if err != nil {
				t.Fatal(err)
			}
			if _, ok, err := s.Again(t.Context(), s.connector, s.far, a, http.Header{}, nil); ok || err != nil || a.Exchanged() {
				t.Errorf("again is %t, %v; that it is good is known: %t", ok, err, a.Exchanged())
			}
		}
		s.want(t, basic, 0, pull)
	})
}

// TestRegistryThatRefusesARequest: what an account may not do says nothing about its password.
func TestRegistryThatRefusesARequest(t *testing.T) {
	for name, status := range map[string]int{"takes the password": 0, "says nothing about it": http.StatusNotFound} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene()
				s.basic, s.status = true, status
				a, err := s.Authorize(t.Context(), s.connector, s.far, []bearer.Scope{pull})
				if err != nil {
					t.Fatal(err)
				}
				if _, ok, err := s.Again(t.Context(), s.connector, s.far, a, http.Header{}, nil); ok || err != nil {
					t.Errorf("again is %t, %v", ok, err)
				}
				if a.Exchanged() != (status == 0) {
					t.Errorf("that it is good is known: %t", a.Exchanged())
				}
				s.want(t, basic, 1, pull)
				a.Drop(http.Header{}) // it cannot be sent again
				attempts := 1
				if status != 0 {
					attempts = 2
				}
				s.want(t, basic, attempts, pull) // what was accepted a moment ago is
				time.Sleep(shortestWait)         //nolint:forbidigo // the test's own time
				a.Drop(http.Header{})
				s.want(t, basic, attempts+1, pull)
				s.want(t, basic, attempts+1, pull)
				s.set(func(f *far) { f.down = true })
				a.Drop(http.Header{})
				if _, ok, err := s.Again(t.Context(), s.connector, s.far, a, http.Header{}, nil); ok || err != nil {
					t.Errorf("where nobody can be asked, again is %t, %v", ok, err)
				}
			})
		})
	}
}

func TestBackOffEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.set(func(f *far) { f.password = "other" })
		for range 20 {
			s.ask(t, pull)
			time.Sleep(longestWait) //nolint:forbidigo // the test's own time
		}
		if got := s.attempts(); got != 20 {
			t.Errorf("%d attempts, want one each 5 minutes", got)
		}
		s.set(func(f *far) { f.password = "right" })
		s.want(t, "Bearer token-1", 21, pull)
	})
}

func TestManyExchangesAtATimeOnceProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.takes = 100 * time.Millisecond
		begun := time.Now()
		var all sync.WaitGroup
		for n := range 50 {
			all.Go(func() { s.ask(t, bearer.Repository(fmt.Sprint(n), bearer.Pull)) })
		}
		all.Wait()
		if took := time.Since(begun); took != 200*time.Millisecond || s.most != 49 {
			t.Errorf("50 exchanges took %s, %d at a time", took, s.most)
		}
	})
}

func TestDeniedScopeIsThatScopeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.want(t, "Bearer token-1", 1, pull)
		s.set(func(f *far) { f.status = http.StatusForbidden })
		s.want(t, v1alpha1.ReasonRegistryDenied, 2, push)
		s.want(t, v1alpha1.ReasonRegistryDenied, 2, push)
		s.want(t, "Bearer token-1", 2, pull)
		s.set(func(f *far) { f.status = 0 })
		s.want(t, "Bearer token-2", 3, bearer.Catalog())
		time.Sleep(deniedTime) //nolint:forbidigo // the test's own time
		s.want(t, "Bearer token-3", 4, push)
	})
}

// TestSecretThatComesLate: the registry knows of a new password before the Secret does.
func TestSecretThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.want(t, "Bearer token-1", 1, pull)
		s.set(func(f *far) { f.password = "new" })
		time.AfterFunc(900*time.Millisecond, func() { s.rotate("2", "new") })
		s.want(t, "Bearer token-2", 3, push)

		s.set(func(f *far) { f.password = "newer" })
		begun := time.Now()
		s.want(t, v1alpha1.ReasonCredentialRefused, 4, bearer.Catalog())
		waited := time.Since(begun)
		s.want(t, v1alpha1.ReasonCredentialRefused, 5, bearer.Catalog()) // tried again, since a second has passed, but not waited for
		if all := time.Since(begun); waited < hope || waited > hope+2*lookEvery || all != waited {
			t.Errorf("waited %s, and %s with the second one", waited, all)
		}
	})
}

func TestRegistryIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.basic = true
		s.want(t, basic, 0, pull)
		s.want(t, basic, 0, pull)
		if s.pings != 1 {
			t.Errorf("%d pings", s.pings)
		}
		s.set(func(f *far) { f.basic = false })
		time.Sleep(learnAgain + time.Second) //nolint:forbidigo // the test's own time
		s.want(t, basic, 0, pull)            // nobody waits for the answer
		s.want(t, "Bearer token-1", 1, pull)
		s.want(t, basic, 1)
	})
}

func TestRegistryDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.down = true
		if got := s.ask(t, pull); got != io.ErrUnexpectedEOF.Error() {
			t.Error(got)
		}
		s.set(func(f *far) { f.down = false })
		s.want(t, "Bearer token-1", 1, pull)
	})
}

func BenchmarkAuthorize(b *testing.B) {
	for name, scopes := range map[string][]bearer.Scope{"token": {pull}, "basic": nil} {
		b.Run(name, func(b *testing.B) {
			s := newScene()
			r := &http.Request{Header: http.Header{"Authorization": nil}}
			s.ask(b, scopes...)
			b.ReportAllocs()
			for b.Loop() {
				a, err := s.Authorize(b.Context(), s.connector, s.far, scopes)
				if err != nil {
					b.Fatal(err)
				}
				a.Authorize(r)
			}
		})
	}
}
