package token

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// PublishTime is how long a new key is only published, before it signs: every
// proxy must know it by then. Proxies watch the published keys, so this is
// generous.
const PublishTime = time.Hour

// Rotation says how long keys live.
type Rotation struct {
	// Every is the age at which the newest key gets a successor.
	Every time.Duration
	// Keep is how long a key verifies after its successor came: at least the
	// longest life of a token, and PublishTime.
	Keep time.Duration
}

// Keys are the signing keys, oldest first. The zero value has none. However it
// is printed, logged or encoded, also as a field of something else, it shows no
// private key: Marshal alone does.
type Keys struct {
	keys []key
}

type key struct {
	created time.Time
	public  ed25519.PublicKey
	// private is a function so that reflection, which reads unexported fields, finds an address and no key.
	private func() ed25519.PrivateKey
}

func newKey(created time.Time, private ed25519.PrivateKey) key {
	public, _ := private.Public().(ed25519.PublicKey)
	return key{created: created, public: public, private: func() ed25519.PrivateKey { return private }}
}

// id tells the key's age and, by the first bytes of the public key, keys of one second apart.
func (k key) id() string {
	return strconv.FormatInt(k.created.Unix(), 10) + "-" + hex.EncodeToString(k.public[:4])
}

func created(id string) (time.Time, error) {
	seconds, _, _ := strings.Cut(id, "-")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("key id '%s' must start with the second of its creation", id)
	}
	return time.Unix(n, 0).UTC(), nil
}

// String names the keys by their ids.
func (k Keys) String() string {
	ids := make([]string, len(k.keys))
	for i, key := range k.keys {
		ids[i] = key.id()
	}
	return "keys " + strings.Join(ids, ", ")
}

// MarshalText implements encoding.TextMarshaler, for JSON, YAML and logs: it is String.
func (k Keys) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Step returns the keys as they should be now: with a new one where the newest
// is too old, without those whose tokens have all expired. It reports whether
// anything changed, and when to ask again.
func (k Keys) Step(now time.Time, r Rotation) (next Keys, changed bool, again time.Time, err error) {
	keys := slices.Clone(k.keys)
	if len(keys) == 0 || !now.Before(keys[len(keys)-1].created.Add(r.Every)) {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return k, false, now, fmt.Errorf("make a signing key: %w", err)
		}
		keys = append(keys, newKey(now.UTC().Truncate(time.Second), private))
	}
	for len(keys) > 1 && !now.Before(keys[1].created.Add(r.Keep)) {
		keys = keys[1:]
	}
	again = keys[len(keys)-1].created.Add(r.Every)
	if len(keys) > 1 {
		again = earlier(again, keys[1].created.Add(r.Keep))
	}
	changed = !slices.EqualFunc(keys, k.keys, func(a, b key) bool { return a.public.Equal(b.public) })
	return Keys{keys}, changed, again, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// signing returns the newest key that every proxy knows, or the oldest where none is that old.
func (k Keys) signing(now time.Time) (key, bool) {
	if len(k.keys) == 0 {
		return key{}, false
	}
	for _, key := range slices.Backward(k.keys[1:]) {
		if !now.Before(key.created.Add(PublishTime)) {
			return key, true
		}
	}
	return k.keys[0], true
}

// Marshal returns the private keys as a JWK Set (RFC 7517).
func (k Keys) Marshal() ([]byte, error) {
	var set jose.JSONWebKeySet
	for _, key := range k.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.private(), KeyID: key.id(), Algorithm: string(jose.EdDSA), Use: "sig"})
	}
	return json.Marshal(set)
}

// ParseKeys reads what Marshal writes. Its errors hold no key.
func ParseKeys(jwks []byte) (Keys, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &set); err != nil {
		return Keys{}, errors.New("signing keys are not a JWK Set")
	}
	var k Keys
	for _, jwk := range set.Keys {
		private, ok := jwk.Key.(ed25519.PrivateKey)
		if !ok {
			return Keys{}, fmt.Errorf("key '%s' is not an Ed25519 private key", jwk.KeyID)
		}
		at, err := created(jwk.KeyID)
		if err != nil {
			return Keys{}, err
		}
		k.keys = append(k.keys, newKey(at, private))
	}
	slices.SortStableFunc(k.keys, func(a, b key) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.id(), b.id()))
	})
	return k, nil
}

// Public returns the keys that verify.
func (k Keys) Public() PublicKeys {
	public := PublicKeys{byID: make(map[string]ed25519.PublicKey, len(k.keys))}
	for _, key := range k.keys {
		public.byID[key.id()] = key.public
	}
	return public
}

// PublicKeys verify tokens. The zero value refuses every token.
type PublicKeys struct {
	byID map[string]ed25519.PublicKey
}

// MarshalJSON writes the keys as a JWK Set (RFC 7517), sorted by id.
func (k PublicKeys) MarshalJSON() ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: make([]jose.JSONWebKey, 0, len(k.byID))}
	for id, public := range k.byID {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: public, KeyID: id, Algorithm: string(jose.EdDSA), Use: "sig"})
	}
	slices.SortFunc(set.Keys, func(a, b jose.JSONWebKey) int { return cmp.Compare(a.KeyID, b.KeyID) })
	return json.Marshal(set)
}

// ParsePublicKeys reads what MarshalJSON of PublicKeys writes.
func ParsePublicKeys(jwks []byte) (PublicKeys, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &set); err != nil {
		return PublicKeys{}, fmt.Errorf("public keys are not a JWK Set: %w", err)
	}
	k := PublicKeys{byID: make(map[string]ed25519.PublicKey, len(set.Keys))}
	for _, jwk := range set.Keys {
		public, ok := jwk.Key.(ed25519.PublicKey)
		if !ok {
			return PublicKeys{}, fmt.Errorf("key '%s' is not an Ed25519 public key", jwk.KeyID)
		}
		k.byID[jwk.KeyID] = public
	}
	return k, nil
}
