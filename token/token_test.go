package token_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/token"
)

// start is when the clocks of these tests start.
func start() time.Time { return time.Date(2026, 1, 31, 23, 59, 59, 0, time.UTC) }

func claims() token.Claims {
	return token.Claims{
		Namespace: "shop", NamespaceUID: "6f1c", Audience: token.AudiencePull,
		IssuedAt: start(), Expires: start().Add(time.Hour),
	}
}

func newKeys(t testing.TB) token.Keys {
	t.Helper()
	keys, _, _, err := token.Keys{}.Step(start(), token.Rotation{Every: 24 * time.Hour, Keep: 48 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func sign(t testing.TB, k token.Keys, now time.Time, c token.Claims) string {
	t.Helper()
	raw, err := k.Sign(now, c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// privateKey takes the one private key out of the keys, as the one who reads their Secret may.
func privateKey(t testing.TB, k token.Keys) (private ed25519.PrivateKey, id string) {
	t.Helper()
	var set jose.JSONWebKeySet
	unmarshal(t, marshal(t, k), &set)
	private, ok := set.Keys[0].Key.(ed25519.PrivateKey)
	if !ok {
		t.Fatalf("key is a %T", set.Keys[0].Key)
	}
	return private, set.Keys[0].KeyID
}

// signed makes a JWT as anybody might.
func signed(t testing.TB, algorithm jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// wire is what Sign puts into a token, with changes; a nil leaves the claim out.
func wire(changes map[string]any) map[string]any {
	c := map[string]any{
		"iss": token.Issuer, "sub": "namespace:shop", "aud": "pull", "namespace": "shop", "namespaceUID": "6f1c",
		"iat": start().Unix(), "nbf": start().Unix(), "exp": start().Add(time.Hour).Unix(),
	}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func TestVerifyReturnsWhatWasSigned(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	for name, change := range map[string]func(*token.Claims){
		"pull":            func(*token.Claims) {},
		"proxy":           func(c *token.Claims) { c.Audience = token.AudienceProxy },
		"longest names":   func(c *token.Claims) { c.Namespace, c.NamespaceUID = strings.Repeat("n", 63), strings.Repeat("u", 36) },
		"local time zone": func(c *token.Claims) { c.IssuedAt = c.IssuedAt.In(time.FixedZone("", 7200)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := claims()
			change(&want)
			raw := sign(t, keys, start(), want)
			if len(raw) > token.MaxLength/2 {
				t.Errorf("%d bytes, half of MaxLength is to spare", len(raw))
			}
			got, err := keys.Public().Verify(raw, start().Add(time.Minute), want.Audience)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("Verify: %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	private, id := privateKey(t, keys)
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := signed(t, jose.EdDSA, private, id, wire(nil))
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"`+id+`"}`)) + "." + strings.Split(good, ".")[1] + "."
	changed := func(changes map[string]any) string { return signed(t, jose.EdDSA, private, id, wire(changes)) }
	evil := changed(map[string]any{"namespace": "evil"})
	for name, tc := range map[string]struct {
		raw  string
		want error
	}{
		"good":               {raw: good},
		"empty":              {want: token.ErrMalformed},
		"text":               {raw: "a.b.c", want: token.ErrMalformed},
		"over-long":          {raw: good + strings.Repeat("A", token.MaxLength), want: token.ErrMalformed},
		"alg none":           {raw: none, want: token.ErrMalformed},
		"HS256, public key":  {raw: signed(t, jose.HS256, []byte(private.Public().(ed25519.PublicKey)), id, wire(nil)), want: token.ErrMalformed},
		"RS256":              {raw: signed(t, jose.RS256, rsaKey, id, wire(nil)), want: token.ErrMalformed},
		"unknown key":        {raw: signed(t, jose.EdDSA, stranger, "1-00000000", wire(nil)), want: token.ErrUnknownKey},
		"no key id":          {raw: signed(t, jose.EdDSA, private, "", wire(nil)), want: token.ErrUnknownKey},
		"forged":             {raw: signed(t, jose.EdDSA, stranger, id, wire(nil)), want: token.ErrForged},
		"other payload":      {raw: evil[:strings.LastIndex(evil, ".")] + good[strings.LastIndex(good, "."):], want: token.ErrForged},
		"no claims":          {raw: signed(t, jose.EdDSA, private, id, nil), want: token.ErrMalformed},
		"claim of no type":   {raw: changed(map[string]any{"exp": "tomorrow"}), want: token.ErrMalformed},
		"expired":            {raw: changed(map[string]any{"exp": start().Add(-time.Minute).Unix()}), want: token.ErrExpired},
		"just expired":       {raw: changed(map[string]any{"exp": start().Add(-20 * time.Second).Unix()})}, // within the leeway
		"not yet valid":      {raw: changed(map[string]any{"nbf": start().Add(time.Minute).Unix()}), want: token.ErrExpired},
		"issued in future":   {raw: changed(map[string]any{"iat": start().Add(time.Minute).Unix()}), want: token.ErrExpired},
		"other audience":     {raw: changed(map[string]any{"aud": "proxy"}), want: token.ErrAudience},
		"two audiences":      {raw: changed(map[string]any{"aud": []string{"pull", "proxy"}}), want: token.ErrAudience},
		"no audience":        {raw: changed(map[string]any{"aud": nil}), want: token.ErrAudience},
		"expired for others": {raw: changed(map[string]any{"aud": "proxy", "exp": start().Add(-time.Minute).Unix()}), want: token.ErrExpired},
		"other issuer":       {raw: changed(map[string]any{"iss": "kubernetes.io"}), want: token.ErrMalformed},
		"no issuer":          {raw: changed(map[string]any{"iss": nil}), want: token.ErrMalformed},
		"no expiry":          {raw: changed(map[string]any{"exp": nil}), want: token.ErrMalformed},
		"no time of issue":   {raw: changed(map[string]any{"iat": nil}), want: token.ErrMalformed},
		"no namespace":       {raw: changed(map[string]any{"namespace": nil}), want: token.ErrMalformed},
		"no namespace UID":   {raw: changed(map[string]any{"namespaceUID": nil}), want: token.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := keys.Public().Verify(tc.raw, start(), token.AudiencePull)
			if !errors.Is(err, tc.want) {
				t.Errorf("Verify = %v, want %v", err, tc.want)
			}
			if err != nil && got != (token.Claims{}) {
				t.Errorf("Verify refuses, and returns %v", got)
			}
		})
	}
}

func TestZeroKeys(t *testing.T) {
	t.Parallel()
	if _, err := (token.Keys{}).Sign(start(), claims()); err == nil {
		t.Error("no keys sign")
	}
	raw := sign(t, newKeys(t), start(), claims())
	if _, err := (token.PublicKeys{}).Verify(raw, start(), token.AudiencePull); !errors.Is(err, token.ErrUnknownKey) {
		t.Errorf("Verify = %v, want %v", err, token.ErrUnknownKey)
	}
}

// Whatever becomes of a token on its way: it is refused, or says what was signed.
func FuzzVerify(f *testing.F) {
	keys := newKeys(f)
	good := sign(f, keys, start(), claims())
	private, id := privateKey(f, keys)
	for _, seed := range []string{
		good, good + "\n", "", "..", "a.b.c", "{}", strings.Replace(good, ".", "", 1),
		signed(f, jose.EdDSA, private, id, wire(map[string]any{"aud": []string{"pull", "proxy"}})),
		signed(f, jose.HS256, []byte(strings.Repeat("k", 32)), id, wire(nil)),
	} {
		f.Add(seed)
	}
	public := keys.Public()
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := public.Verify(raw, start(), token.AudiencePull)
		if err == nil && got != claims() {
			t.Errorf("Verify = %v, nobody signed that", got)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	keys := newKeys(b)
	raw, public := sign(b, keys, start(), claims()), keys.Public()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := public.Verify(raw, start(), token.AudiencePull); err != nil {
			b.Fatal(err)
		}
	}
}
