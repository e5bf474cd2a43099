package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/token"
)

// cluster is an authenticator of ServiceAccount tokens with the API server that it asks.
type cluster struct {
	*ServiceAccounts

	now        time.Time
	namespaces namespaces
	asked      atomic.Int64
	answer     func(*authenticationv1.TokenReview) error
	signer     jose.Signer
	keys       jose.JSONWebKeySet
	keysError  error
	fetched    atomic.Int64
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), signer: signing(t, key, "1"), answer: authenticated("system:serviceaccount:demo:default"),
		namespaces: namespaces{"demo": {UID: "1", Labels: map[string]string{"team": "payments"}}},
	}
	c.keys.Keys = []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Use: "sig"}}
	c.ServiceAccounts = NewServiceAccounts(c.review, c.fetch, c.namespaces, func() time.Time { return c.now })
	return c
}

// signing returns a signer whose tokens name the key.
func signing(t testing.TB, key *ecdsa.PrivateKey, id string) jose.Signer {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func (c *cluster) fetch(context.Context) (jose.JSONWebKeySet, error) {
	c.fetched.Add(1)
	return c.keys, c.keysError
}

func authenticated(user string, audiences ...string) func(*authenticationv1.TokenReview) error {
	if len(audiences) == 0 {
		audiences = []string{v1alpha1.TokenAudience}
	}
	return func(r *authenticationv1.TokenReview) error {
		r.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: user}, Audiences: audiences}
		return nil
	}
}

func (c *cluster) review(_ context.Context, r *authenticationv1.TokenReview) (*authenticationv1.TokenReview, error) {
	c.asked.Add(1)
	if diff := cmp.Diff([]string{v1alpha1.TokenAudience}, r.Spec.Audiences); diff != "" {
		return nil, errors.New("asked for other audiences: " + diff)
	}
	return r, c.answer(r)
}

// sign makes a token as the API server does.
func (c *cluster) sign(t testing.TB, audience string, expires time.Time) string {
	t.Helper()
	raw, err := jwt.Signed(c.signer).Claims(jwt.Claims{
		Issuer: "https://kubernetes.default.svc", Subject: "system:serviceaccount:demo:default",
		Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(expires),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (c *cluster) good(t testing.TB) string {
	t.Helper()
	return c.sign(t, v1alpha1.TokenAudience, c.now.Add(time.Hour))
}

func bearer(raw string) *http.Request { return with("Bearer " + raw) }

// TestClusterKeys: what the cluster did not sign is refused without asking the API server about it; where the cluster
// does not tell its keys, the API server alone says.
func TestClusterKeys(t *testing.T) {
	t.Parallel()
	key := func() *ecdsa.PrivateKey {
		made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	forged := func(id string) func(*cluster) { return func(c *cluster) { c.signer = signing(t, key(), id) } }
	away := func(c *cluster) { c.keysError = errors.New("secret") }
	rotate := func(c *cluster) {
		made := key()
		c.signer = signing(t, made, "2")
		c.keys.Keys = append(c.keys.Keys, jose.JSONWebKey{Key: made.Public(), KeyID: "2", Use: "sig"})
	}
	for name, tc := range map[string]struct {
		before, after  func(*cluster) // before the keys are asked for, and after
		later          time.Duration
		err            error
		asked, fetched int64 // after the first token
	}{
		"signed":                             {asked: 1},
		"forged":                             {after: forged("1"), err: token.ErrForged},
		"forged under another name":          {after: forged("2"), err: token.ErrUnknownKey},
		"forged under another name, later":   {after: forged("2"), later: fetchAgain, err: token.ErrUnknownKey, fetched: 1},
		"by a new key":                       {after: rotate, later: fetchAgain, asked: 1, fetched: 1},
		"by a new key, too soon":             {after: rotate, later: fetchAgain - 1, err: token.ErrUnknownKey},
		"by a new key, API server away":      {after: func(c *cluster) { rotate(c); away(c) }, later: fetchAgain, err: ErrUnavailable, fetched: 1},
		"of a known key, API server away":    {after: away, later: fetchAgain, asked: 1},
		"of a cluster that tells no keys":    {before: away, after: forged("1"), asked: 1},
		"of a cluster that tells them later": {before: away, after: func(c *cluster) { c.keysError = nil; forged("1")(c) }, later: fetchAgain, err: token.ErrForged, fetched: 1},
		"of a cluster that has none":         {before: func(c *cluster) { c.keys.Keys = nil }, after: forged("1"), asked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			if tc.before != nil {
				tc.before(c)
			}
			if _, err := c.Authenticate(bearer(c.good(t))); err != nil {
				t.Fatal(err)
			}
			asked, fetched := c.asked.Load(), c.fetched.Load()
			if tc.after != nil {
				tc.after(c)
			}
			c.now = c.now.Add(tc.later)
			_, err := c.Authenticate(bearer(c.sign(t, v1alpha1.TokenAudience, c.now.Add(2*time.Hour))))
			if !errors.Is(err, tc.err) || err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("error '%v', want '%v'", err, tc.err)
			}
			asked, fetched = c.asked.Load()-asked, c.fetched.Load()-fetched
			if asked != tc.asked || fetched != tc.fetched {
				t.Errorf("the API server was asked about the token %d times, want %d, and for keys %d times, want %d", asked, tc.asked, fetched, tc.fetched)
			}
		})
	}
}

// TestServiceAccounts: who is taken, and who is not, and how often the API server is asked for it.
func TestServiceAccounts(t *testing.T) {
	t.Parallel()
	demo := Identity{Caller: access.Caller{Namespace: "demo", Labels: map[string]string{"team": "payments"}}, UID: "1", Audience: AudienceFiles}
	for name, tc := range map[string]struct {
		request func(*testing.T, *cluster) *http.Request
		answer  func(*authenticationv1.TokenReview) error
		err     error
		asked   int64
	}{
		"Bearer":      {request: func(t *testing.T, c *cluster) *http.Request { return bearer(c.good(t)) }, asked: 1},
		"Basic":       {request: func(t *testing.T, c *cluster) *http.Request { return basic(c.good(t)) }, asked: 1},
		"nothing":     {request: func(*testing.T, *cluster) *http.Request { return httptest.NewRequest(http.MethodGet, "/", nil) }, err: ErrNoCredentials},
		"no JWT":      {request: func(*testing.T, *cluster) *http.Request { return bearer("secret") }, err: token.ErrMalformed},
		"too long":    {request: func(t *testing.T, c *cluster) *http.Request { return bearer(c.good(t) + strings.Repeat("x", 9000)) }, err: token.ErrMalformed},
		"expired":     {request: func(t *testing.T, c *cluster) *http.Request { return bearer(c.sign(t, v1alpha1.TokenAudience, c.now)) }, err: token.ErrExpired},
		"for others":  {request: func(t *testing.T, c *cluster) *http.Request { return bearer(c.sign(t, "vault", c.now.Add(time.Hour))) }, err: token.ErrAudience},
		"unsigned":    {request: func(*testing.T, *cluster) *http.Request { return bearer("eyJhbGciOiJub25lIn0.e30.") }, err: token.ErrMalformed},
		"refused":     {answer: func(*authenticationv1.TokenReview) error { return nil }, err: ErrToken, asked: 1},
		"a user":      {answer: authenticated("admin"), err: ErrToken, asked: 1},
		"no name":     {answer: authenticated("system:serviceaccount:demo:"), err: ErrToken, asked: 1},
		"other words": {answer: authenticated("system:serviceaccount:demo:default", "other"), err: ErrToken, asked: 1},
		"namespace":   {answer: authenticated("system:serviceaccount:gone:default"), err: ErrNamespace, asked: 2},
		"away":        {answer: func(*authenticationv1.TokenReview) error { return errors.New("secret") }, err: ErrUnavailable, asked: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			if tc.answer != nil {
				c.answer = tc.answer
			}
			r := bearer(c.good(t))
			if tc.request != nil {
				r = tc.request(t, c)
			}
			for range 2 {
				got, err := c.Authenticate(r)
				if !errors.Is(err, tc.err) {
					t.Fatalf("error '%v', want '%v'", err, tc.err)
				}
				if want := demo; tc.err == nil && cmp.Diff(want, got) != "" {
					t.Error(cmp.Diff(want, got))
				}
				if raw, _ := shown(r); err != nil && (raw != "" && strings.Contains(err.Error(), raw) || strings.Contains(err.Error(), "secret")) {
					t.Errorf("the token: %v", err)
				}
			}
			if asked := c.asked.Load(); asked != tc.asked {
				t.Errorf("the API server is asked %d times, want %d", asked, tc.asked)
			}
		})
	}
}

// TestAnswers: an answer is taken for a while, longer while nobody answers, and never past the token's time.
func TestAnswers(t *testing.T) {
	t.Parallel()
	away := func(*authenticationv1.TokenReview) error { return errors.New("away") }
	refused := func(*authenticationv1.TokenReview) error { return nil }
	for name, tc := range map[string]struct {
		after  time.Duration
		answer func(*authenticationv1.TokenReview) error
		change func(*cluster)
		err    error
	}{
		"fresh, and revoked":      {after: freshFor - 1, answer: refused},
		"not fresh, and revoked":  {after: freshFor, answer: refused, err: ErrToken},
		"not fresh, away":         {after: goodFor - 1, answer: away},
		"old, away":               {after: goodFor, answer: away, err: ErrUnavailable},
		"expired":                 {after: time.Hour, answer: away, err: token.ErrExpired},
		"namespace is gone":       {change: func(c *cluster) { delete(c.namespaces, "demo") }, err: ErrNamespace},
		"namespace is another":    {change: func(c *cluster) { c.namespaces["demo"] = Namespace{UID: "2"} }, err: ErrNamespace},
		"labels as they are now":  {change: func(c *cluster) { c.namespaces["demo"] = Namespace{UID: "1"} }},
		"asked again, same words": {after: freshFor, answer: authenticated("system:serviceaccount:demo:default")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			r := bearer(c.good(t))
			if _, err := c.Authenticate(r); err != nil {
				t.Fatal(err)
			}
			c.now = c.now.Add(tc.after)
			if tc.answer != nil {
				c.answer = tc.answer
			}
			if tc.change != nil {
				tc.change(c)
			}
			if _, err := c.Authenticate(r); !errors.Is(err, tc.err) {
				t.Errorf("error '%v', want '%v'", err, tc.err)
			}
		})
	}
}

// TestRefusalPasses: a refusal is remembered for some seconds alone.
func TestRefusalPasses(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	r := bearer(c.good(t))
	c.answer = func(*authenticationv1.TokenReview) error { return nil }
	_, _ = c.Authenticate(r)
	c.answer = authenticated("system:serviceaccount:demo:default")
	if _, err := c.Authenticate(r); !errors.Is(err, ErrToken) {
		t.Errorf("at once: %v", err)
	}
	c.now = c.now.Add(refusedFor)
	if _, err := c.Authenticate(r); err != nil {
		t.Errorf("later: %v", err)
	}
}

// TestOneQuestion: however many ask for one token at a time, the API server is asked once; and never more often than it is let.
func TestOneQuestion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		answer := make(chan struct{})
		c.answer = func(r *authenticationv1.TokenReview) error {
			<-answer
			return authenticated("system:serviceaccount:demo:default")(r)
		}
		raw := c.good(t)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := c.Authenticate(bearer(raw)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(answer)
		all.Wait()
		if asked := c.asked.Load(); asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
	c := newCluster(t)
	c.answer = func(*authenticationv1.TokenReview) error { return nil }
	for i := range reviewBurst + 10 {
		_, _ = c.Authenticate(bearer(c.sign(t, v1alpha1.TokenAudience, c.now.Add(time.Duration(i+1)*time.Minute))))
	}
	if asked := c.asked.Load(); asked != reviewBurst {
		t.Errorf("asked %d times at once, want %d", asked, reviewBurst)
	}
}

// TestEither: each token goes to who knows it, and what nobody knows is told as a bad berth token.
func TestEither(t *testing.T) {
	t.Parallel()
	w, c := newWorld(t), newCluster(t)
	either := Either{w.Authenticator, c.ServiceAccounts}
	expired := w.good()
	expired.IssuedAt, expired.Expires = w.now.Add(-time.Hour), w.now.Add(-time.Minute)
	for name, tc := range map[string]struct {
		raw      string
		audience token.Audience
		err      error
	}{
		"berth's":         {w.sign(t, w.good()), token.AudiencePull, nil},
		"berth's, late":   {w.sign(t, expired), "", token.ErrExpired},
		"ServiceAccount":  {c.good(t), AudienceFiles, nil},
		"for others":      {c.sign(t, "vault", c.now.Add(time.Hour)), "", token.ErrAudience},
		"neither":         {"x.y.z", "", token.ErrMalformed},
		"nothing":         {"", "", ErrNoCredentials},
		"of another key":  {(&world{keys: newKeys(t, w.now), now: w.now}).sign(t, w.good()), "", ErrToken},
		"much too long x": {strings.Repeat("x", 100_000), "", token.ErrMalformed},
	} {
		got, err := either.Authenticate(bearer(tc.raw))
		if !errors.Is(err, tc.err) || got.Audience != tc.audience {
			t.Errorf("%s: %+v, %v, want '%s', %v", name, got, err, tc.audience, tc.err)
		}
	}
}

// BenchmarkServiceAccounts is a token that was verified before: a request of a build, or a volume asked for again.
func BenchmarkServiceAccounts(b *testing.B) {
	w, c := newWorld(b), newCluster(b)
	either, r := Either{w.Authenticator, c.ServiceAccounts}, bearer(c.good(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := either.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzPeek: whatever the token, there is an answer.
func FuzzPeek(f *testing.F) {
	c := newCluster(f)
	f.Add(c.good(f))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, raw string) {
		if _, claims, err := peek(raw, c.now); err == nil && claims.Expiry == nil {
			t.Error("taken without an end")
		}
	})
}
