package identity

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/access"
	"berth.dev/berth/token"
)

type namespaces map[string]Namespace

func (n namespaces) Namespace(name string) (Namespace, bool) {
	found, ok := n[name]
	return found, ok
}

// world is an authenticator with its keys, namespaces and clock.
type world struct {
	*Authenticator
	keys       token.Keys
	public     atomic.Pointer[token.PublicKeys]
	namespaces namespaces
	now        time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		now:        time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC),
		namespaces: namespaces{"demo": {UID: "1", Labels: map[string]string{"team": "payments"}}},
	}
	w.keys = newKeys(t, w.now)
	w.publish(w.keys)
	w.Authenticator = New(w.public.Load, w.namespaces, func() time.Time { return w.now }, token.AudiencePull)
	return w
}

func newKeys(t testing.TB, now time.Time) token.Keys {
	t.Helper()
	keys, _, _, err := token.Keys{}.Step(now.Add(-2*time.Hour), token.Rotation{Every: 24 * time.Hour, Keep: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func (w *world) publish(keys token.Keys) {
	public := keys.Public()
	w.public.Store(&public)
}

func (w *world) sign(t testing.TB, c token.Claims) string {
	t.Helper()
	raw, err := w.keys.Sign(w.now, c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// good are claims that are accepted for ten minutes.
func (w *world) good() token.Claims {
	return token.Claims{Namespace: "demo", NamespaceUID: "1", Audience: token.AudiencePull, IssuedAt: w.now.Add(-time.Minute), Expires: w.now.Add(10 * time.Minute)}
}

func basic(raw string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.SetBasicAuth("whoever", raw)
	return r
}

func with(authorization string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.Header.Set("Authorization", authorization)
	return r
}

func TestAuthenticate(t *testing.T) {
	w := newWorld(t)
	raw := w.sign(t, w.good())
	want := Identity{Caller: access.Caller{Namespace: "demo", Labels: map[string]string{"team": "payments"}}, UID: "1", Audience: token.AudiencePull}
	for name, r := range map[string]*http.Request{
		"basic":             basic(raw),
		"basic, once more":  basic(raw),
		"bearer":            with("Bearer " + raw),
		"bearer, lower":     with("bearer " + raw),
		"bearer, two space": with("Bearer  " + raw),
	} {
		got, err := w.Authenticate(r)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", name, err, diff)
		}
	}
}

// A namespace whose tokens were revoked takes those of its generation alone, and those that were verified before no more.
func TestGenerations(t *testing.T) {
	w := newWorld(t)
	claims := w.good()
	old := w.sign(t, claims)
	claims.Generation = "2"
	fresh := w.sign(t, claims)
	if _, err := w.Verify(old); err != nil {
		t.Errorf("before: %v", err)
	}
	if _, err := w.Verify(fresh); !errors.Is(err, ErrRevoked) {
		t.Errorf("a generation that the namespace has not: %v", err)
	}
	w.namespaces["demo"] = Namespace{UID: "1", Generation: "2"}
	if _, err := w.Verify(old); !errors.Is(err, ErrRevoked) {
		t.Errorf("after: %v", err)
	}
	if _, err := w.Verify(fresh); err != nil {
		t.Errorf("a new one: %v", err)
	}
}

func TestAudiences(t *testing.T) {
	w := newWorld(t)
	a := New(w.public.Load, w.namespaces, func() time.Time { return w.now }, token.AudiencePull, token.AudienceProxy)
	for _, audience := range []token.Audience{token.AudiencePull, token.AudienceProxy, token.AudiencePull} {
		claims := w.good()
		claims.Audience = audience
		got, err := a.Authenticate(basic(w.sign(t, claims)))
		if err != nil || got.Audience != audience {
			t.Errorf("audience '%s': %v, %v", audience, got, err)
		}
	}
}

func TestAuthenticateRefuses(t *testing.T) {
	w := newWorld(t)
	claims := func(change func(*token.Claims)) string {
		c := w.good()
		change(&c)
		return w.sign(t, c)
	}
	good := w.sign(t, w.good())
	foreign, _ := newKeys(t, w.now).Sign(w.now, w.good())
	for name, test := range map[string]struct {
		request *http.Request
		want    []error
	}{
		"nothing":              {httptest.NewRequest(http.MethodGet, "/v2/", nil), []error{ErrNoCredentials}},
		"empty password":       {basic(""), []error{ErrNoCredentials}},
		"empty bearer":         {with("Bearer "), []error{ErrNoCredentials}},
		"another scheme":       {with("Digest " + good), []error{ErrNoCredentials}},
		"malformed":            {basic("hunter2"), []error{ErrToken, token.ErrMalformed}},
		"too long":             {basic(good + strings.Repeat("A", token.MaxLength)), []error{ErrToken, token.ErrMalformed}},
		"unsigned":             {basic("eyJhbGciOiJub25lIn0.e30."), []error{ErrToken, token.ErrMalformed}},
		"unknown key":          {basic(foreign), []error{ErrToken, token.ErrUnknownKey}},
		"forged":               {basic(good[:len(good)-40] + strings.Repeat("A", 40)), []error{ErrToken, token.ErrForged}},
		"expired":              {basic(claims(func(c *token.Claims) { c.Expires = w.now.Add(-time.Minute) })), []error{ErrToken, token.ErrExpired}},
		"not yet valid":        {basic(claims(func(c *token.Claims) { c.IssuedAt = w.now.Add(time.Minute) })), []error{ErrToken, token.ErrExpired}},
		"wrong audience":       {basic(claims(func(c *token.Claims) { c.Audience = token.AudienceProxy })), []error{ErrToken, token.ErrAudience}},
		"namespace gone":       {basic(claims(func(c *token.Claims) { c.Namespace = "gone" })), []error{ErrNamespace}},
		"namespace's namesake": {basic(claims(func(c *token.Claims) { c.NamespaceUID = "0" })), []error{ErrNamespace}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, when := range []string{"first", "second"} {
				got, err := w.Authenticate(test.request)
				for _, want := range test.want {
					if !errors.Is(err, want) {
						t.Errorf("%s: %v, want %v", when, err, want)
					}
				}
				if diff := cmp.Diff(Identity{}, got); diff != "" {
					t.Errorf("%s: an identity beside the error:\n%s", when, diff)
				}
				if err != nil && (strings.Contains(err.Error(), "eyJ") || strings.Contains(err.Error(), "hunter2")) {
					t.Errorf("%s: the token stands in the error: %v", when, err)
				}
			}
		})
	}
}

// TestMemory: what is remembered of a token is worth no more than the token.
func TestMemory(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*testing.T, *world)
		want   error
	}{
		"nothing changes":      {func(*testing.T, *world) {}, nil},
		"token expires":        {func(_ *testing.T, w *world) { w.now = w.now.Add(11 * time.Minute) }, token.ErrExpired},
		"within the leeway":    {func(_ *testing.T, w *world) { w.now = w.now.Add(10*time.Minute + time.Second) }, nil},
		"clock goes back":      {func(_ *testing.T, w *world) { w.now = w.now.Add(-time.Hour) }, token.ErrExpired},
		"keys are replaced":    {func(t *testing.T, w *world) { w.publish(newKeys(t, w.now)) }, token.ErrUnknownKey},
		"keys are gone":        {func(_ *testing.T, w *world) { w.public.Store(nil) }, token.ErrUnknownKey},
		"keys are read anew":   {func(_ *testing.T, w *world) { w.publish(w.keys) }, nil},
		"namespace is deleted": {func(_ *testing.T, w *world) { delete(w.namespaces, "demo") }, ErrNamespace},
		"namespace is remade":  {func(_ *testing.T, w *world) { w.namespaces["demo"] = Namespace{UID: "2"} }, ErrNamespace},
		"namespace is labelled": {func(_ *testing.T, w *world) {
			w.namespaces["demo"] = Namespace{UID: "1", Labels: map[string]string{"a": "b"}}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := basic(w.sign(t, w.good()))
			if _, err := w.Authenticate(r); err != nil {
				t.Fatal(err)
			}
			test.change(t, w)
			got, err := w.Authenticate(r)
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Fatalf("%v, want %v", err, test.want)
			}
			if err == nil && !cmp.Equal(got.Labels, w.namespaces["demo"].Labels) {
				t.Errorf("labels: %v, must be those of now", got.Labels)
			}
		})
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	w := newWorld(b)
	r := basic(w.sign(b, w.good()))
	b.Run("remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Authenticate(r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verified", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.current.Store(nil)
			if _, err := w.Authenticate(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
