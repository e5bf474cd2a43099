package token_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/dump"

	"berth.dev/berth/token"
)

func marshal(t testing.TB, k token.Keys) []byte {
	t.Helper()
	jwks, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return jwks
}

func unmarshal(t testing.TB, raw []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

func ids(t testing.TB, k token.PublicKeys) []string {
	t.Helper()
	jwks, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	unmarshal(t, jwks, &set)
	var ids []string
	for _, key := range set.Keys {
		ids = append(ids, key.KeyID)
	}
	return ids
}

func signer(t testing.TB, raw string) string {
	t.Helper()
	parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Headers[0].KeyID
}

// simulation is a controller that steps its keys, through their stored form,
// with all that was ever seen from outside.
type simulation struct {
	rotation  token.Rotation
	now       time.Time
	keys      token.Keys
	published map[string]time.Time // by key, when it was first seen
	longest   map[string]string    // by key, its token that expires last
}

func (s *simulation) step(t *testing.T) (again time.Time) {
	t.Helper()
	stored, err := token.ParseKeys(marshal(t, s.keys))
	if err != nil {
		t.Fatal(err)
	}
	next, changed, again, err := stored.Step(s.now, s.rotation)
	if err != nil {
		t.Fatal(err)
	}
	if same := next.String() == stored.String(); changed == same {
		t.Fatalf("%s: changed = %t, from %s to %s", s.now, changed, stored, next)
	}
	if !again.After(s.now) {
		t.Fatalf("%s: ask again at %s", s.now, again)
	}
	if _, changed, later, _ := next.Step(again.Add(-1), s.rotation); changed || !later.Equal(again) {
		t.Fatalf("%s: asked just before %s: changed = %t, again at %s", s.now, again, changed, later)
	}
	if _, changed, _, _ := next.Step(again, s.rotation); !changed {
		t.Fatalf("%s: asked again at %s, but nothing changes then", s.now, again)
	}
	s.keys = next
	return again
}

func (s *simulation) check(t *testing.T) {
	t.Helper()
	public := s.keys.Public()
	all := ids(t, public)
	for _, id := range all {
		if _, ok := s.published[id]; !ok {
			s.published[id] = s.now
		}
	}
	c := claims()
	c.IssuedAt, c.Expires = s.now, s.now.Add(s.rotation.Keep-token.PublishTime)
	raw := sign(t, s.keys, s.now, c)
	id := signer(t, raw)
	if id != all[0] && s.now.Sub(s.published[id]) < token.PublishTime {
		t.Fatalf("%s: signs with %s, published at %s", s.now, id, s.published[id])
	}
	s.longest[id] = raw
	for id, raw := range s.longest {
		var registered jwt.Claims
		parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.EdDSA})
		if err != nil || parsed.UnsafeClaimsWithoutVerification(&registered) != nil {
			t.Fatal(err)
		}
		if s.now.After(registered.Expiry.Time()) {
			delete(s.longest, id)
		} else if _, err := public.Verify(raw, s.now, token.AudiencePull); err != nil {
			t.Fatalf("%s: a token of %s, good until %s: %v", s.now, id, registered.Expiry.Time(), err)
		}
	}
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, tc := range map[string]struct {
		rotation token.Rotation
		away     time.Duration // the longest that the controller is away
	}{
		"long tokens":           {rotation: token.Rotation{Every: 30 * day, Keep: 90*day + token.PublishTime}, away: time.Hour},
		"short tokens":          {rotation: token.Rotation{Every: 30 * day, Keep: 2 * token.PublishTime}, away: time.Hour},
		"successors in a hurry": {rotation: token.Rotation{Every: 25 * time.Minute, Keep: 3 * time.Hour}, away: time.Minute},
		"controller away":       {rotation: token.Rotation{Every: 7 * day, Keep: 10 * day}, away: 30 * day},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, 2))
			s := &simulation{rotation: tc.rotation, now: start(), published: map[string]time.Time{}, longest: map[string]string{}}
			end := start().Add(5 * max(tc.rotation.Every, tc.rotation.Keep))
			for s.now.Before(end) {
				again := s.step(t)
				s.check(t)
				late := again.Add(time.Duration(random.Int64N(int64(tc.away))).Truncate(time.Second))
				for range 3 { // moments in between, at which the keys are used as they are
					s.now = s.now.Add(time.Duration(random.Int64N(int64(late.Sub(s.now)))).Truncate(time.Second))
					s.check(t)
				}
				s.now = late
			}
			if len(s.published) < 3 {
				t.Errorf("only %d keys in the whole time", len(s.published))
			}
		})
	}
}

func TestPublicKeysRoundTrip(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	jwks, err := json.Marshal(keys.Public())
	if err != nil {
		t.Fatal(err)
	}
	public, err := token.ParsePublicKeys(jwks)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ids(t, keys.Public()), ids(t, public)); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	if _, err := public.Verify(sign(t, keys, start(), claims()), start(), token.AudiencePull); err != nil {
		t.Error(err)
	}
	private, _ := privateKey(t, keys)
	if bytes.Contains(jwks, []byte(base64.RawURLEncoding.EncodeToString(private.Seed()))) {
		t.Error("the public keys hold the private one")
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	public, err := json.Marshal(keys.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ private, public []byte }{
		"text":            {private: []byte("keys"), public: []byte("keys")},
		"the other kind":  {private: public, public: marshal(t, keys)},
		"symmetric":       {private: []byte(`{"keys":[{"kty":"oct","kid":"1-0","k":"AAAA"}]}`), public: []byte(`{"keys":[{"kty":"oct","kid":"1-0","k":"AAAA"}]}`)},
		"id without time": {private: bytes.Replace(marshal(t, keys), []byte(`"kid":"1`), []byte(`"kid":"x`), 1), public: []byte(`[]`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := token.ParseKeys(tc.private); err == nil {
				t.Error("ParseKeys accepts it")
			}
			if _, err := token.ParsePublicKeys(tc.public); err == nil {
				t.Error("ParsePublicKeys accepts it")
			}
		})
	}
}

func TestKeysShowNoPrivateKey(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	private, _ := privateKey(t, keys)
	secret := private.Seed()[:8]
	printed := map[string]string{}
	for name, value := range map[string]any{
		"value": keys, "pointer": &keys, "slice": []token.Keys{keys}, "map": map[string]any{"k": keys},
		"field": struct{ Keys token.Keys }{keys}, "unexported field": struct{ keys token.Keys }{keys}, "unexported pointer": &struct{ keys *token.Keys }{&keys},
	} {
		for verb := range strings.FieldsSeq("%v %+v %#v %s %q %x %X %d %o %b %c %U %e %t %p") {
			printed[name+" "+verb] = fmt.Sprintf(verb, value)
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var logged bytes.Buffer
		slog.New(slog.NewTextHandler(&logged, nil)).Info("", "k", value)
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("", "k", value)
		printed[name+" JSON"], printed[name+" log"], printed[name+" reflection"] = string(encoded), logged.String(), dump.Pretty(value)
	}
	shown := []string{string(secret), base64.RawURLEncoding.EncodeToString(secret)[:10], base64.StdEncoding.EncodeToString(secret)[:10]}
	for verb := range strings.FieldsSeq("%v %#v %q %x %X %d %o %b %c %U") {
		list := strings.TrimPrefix(fmt.Sprintf(verb, secret), "[]byte")
		shown = append(shown, strings.Trim(list, "[]{}\""))
	}
	shown = append(shown, fmt.Sprintf("% x", secret)) // as hex dumps have it
	for how, text := range printed {
		for _, s := range shown {
			if strings.Contains(text, s) {
				t.Errorf("%s shows the private key: %s", how, text)
			}
		}
	}
	if want := ids(t, keys.Public())[0]; !strings.Contains(printed["field JSON"], want) || !strings.Contains(printed["value %v"], want) {
		t.Errorf("prints as %s, must hold %s", printed["value %v"], want)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add(marshal(f, newKeys(f)))
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"-1","x":"","d":""}]}`))
	f.Fuzz(func(t *testing.T, jwks []byte) {
		keys, err := token.ParseKeys(jwks)
		if err != nil {
			return
		}
		again, err := token.ParseKeys(marshal(t, keys))
		if err != nil || again.String() != keys.String() {
			t.Errorf("read %s, wrote and read %s: %v", keys, again, err)
		}
		_, _ = keys.Sign(start(), claims())
	})
}

func FuzzParsePublicKeys(f *testing.F) {
	jwks, err := json.Marshal(newKeys(f).Public())
	if err != nil {
		f.Fatal(err)
	}
	raw := sign(f, newKeys(f), start(), claims())
	f.Add(jwks)
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"","x":"AA"}]}`))
	f.Fuzz(func(t *testing.T, jwks []byte) {
		keys, err := token.ParsePublicKeys(jwks)
		if err != nil {
			return
		}
		written, err := json.Marshal(keys)
		if err != nil {
			t.Fatal(err)
		}
		again, err := token.ParsePublicKeys(written)
		if diff := cmp.Diff(ids(t, keys), ids(t, again)); diff != "" || err != nil {
			t.Errorf("ids: %v (-read +again):\n%s", err, diff)
		}
		if _, err := keys.Verify(raw, start(), token.AudiencePull); err == nil {
			t.Error("a key made up verifies")
		}
	})
}
