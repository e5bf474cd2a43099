// Package token makes and checks berth tokens: what a workload's namespace
// shows to Berth's proxies instead of a registry credential. A token is worth
// nothing at a registry.
//
// A berth token is a JWT (RFC 7519) signed with Ed25519 (RFC 8037). It names a
// namespace by name and UID, so that it dies with the namespace and is worth
// nothing in its namesake, and one audience, so that a token for kubelet's
// pulls opens nothing else. What the namespace may do is not in the token: that
// is decided by the Connector's access rules when the token is used.
//
// The controller signs with a Keys; the proxies verify with its PublicKeys and
// cannot sign. Keys rotate by a rule over their age alone (see Keys.Step), so
// that several controllers, one after the other, need no other memory.
package token

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Issuer is the `iss` of every berth token.
const Issuer = "connectors.berth.dev"

// MaxLength is the most bytes that a token has; what is longer is refused unread.
const MaxLength = 2048

// leeway is how far the clocks of controller and proxy may be apart.
const leeway = 30 * time.Second

// Audience is what a token is good for.
type Audience string

// The audiences.
const (
	// AudiencePull is kubelet's: the token reads images through the reverse proxy, and does nothing else.
	AudiencePull Audience = "pull"
	// AudienceProxy is a container's: the token is for the forward proxy, and for all that the reverse proxy does.
	AudienceProxy Audience = "proxy"
)

// Claims are what a token says.
type Claims struct {
	// Namespace and NamespaceUID name the Namespace object whose workloads hold the token.
	Namespace, NamespaceUID string
	// Generation is what the Namespace said of its tokens then; another one, and they are revoked.
	Generation string
	// Audience is the one thing that the token is good for.
	Audience Audience
	// IssuedAt and Expires bound its life, to the second.
	IssuedAt, Expires time.Time
}

// The reasons for which Verify refuses a token.
var (
	// ErrMalformed: not a berth token at all.
	ErrMalformed = errors.New("token is malformed")
	// ErrUnknownKey: signed with a key that is not, or no longer, published.
	ErrUnknownKey = errors.New("token is signed with an unknown key")
	// ErrForged: the signature does not fit.
	ErrForged = errors.New("token has a wrong signature")
	// ErrExpired: its time is over, or has not come.
	ErrExpired = errors.New("token is expired or not yet valid")
	// ErrAudience: it is good for something else.
	ErrAudience = errors.New("token is of another audience")
)

// Refusal is the error for a token that is no good although one of the keys has signed it: whom it was made for may be told.
type Refusal struct {
	// Namespace and NamespaceUID name the Namespace object.
	Namespace, NamespaceUID string
	// Err is ErrExpired or ErrAudience.
	Err error
}

// Error implements error.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap is for errors.Is.
func (r *Refusal) Unwrap() error { return r.Err }

// private is the part of the JWT claims that RFC 7519 does not register.
type private struct {
	Namespace    string `json:"namespace"`
	NamespaceUID string `json:"namespaceUID"`
	Generation   string `json:"generation,omitempty"`
}

// Sign makes a token of the claims.
func (k Keys) Sign(now time.Time, c Claims) (string, error) {
	key, ok := k.signing(now)
	if !ok {
		return "", errors.New("sign a token: there is no key")
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: key.private(), KeyID: key.id()}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	raw, err := jwt.Signed(signer).
		Claims(jwt.Claims{
			Issuer: Issuer, Subject: "namespace:" + c.Namespace, Audience: jwt.Audience{string(c.Audience)},
			IssuedAt: jwt.NewNumericDate(c.IssuedAt), NotBefore: jwt.NewNumericDate(c.IssuedAt), Expiry: jwt.NewNumericDate(c.Expires),
		}).
		Claims(private{Namespace: c.Namespace, NamespaceUID: c.NamespaceUID, Generation: c.Generation}).
		Serialize()
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return raw, nil
}

// Verify returns the claims of a token that one of the keys has signed, that is
// in its time, and that is good for one of the audiences. Whether the namespace still
// exists, with that UID and generation, the caller must ask.
//
// The errors are ErrMalformed, ErrUnknownKey, ErrForged, ErrExpired and
// ErrAudience; none holds any of the token. The last two are wrapped in a *Refusal.
func (k PublicKeys) Verify(raw string, now time.Time, audiences ...Audience) (Claims, error) {
	if len(raw) > MaxLength {
		return Claims{}, ErrMalformed
	}
	parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || len(parsed.Headers) != 1 {
		return Claims{}, ErrMalformed
	}
	key, ok := k.byID[parsed.Headers[0].KeyID]
	if !ok {
		return Claims{}, ErrUnknownKey
	}
	var registered jwt.Claims
	var own private
	if err := parsed.Claims(key, &registered, &own); err != nil {
		if errors.Is(err, jose.ErrCryptoFailure) {
			return Claims{}, ErrForged
		}
		return Claims{}, ErrMalformed
	}
	return check(registered, own, now, audiences)
}

func check(registered jwt.Claims, own private, now time.Time, audiences []Audience) (Claims, error) {
	if registered.Expiry == nil || registered.IssuedAt == nil || own.Namespace == "" || own.NamespaceUID == "" {
		return Claims{}, ErrMalformed
	}
	err := registered.ValidateWithLeeway(jwt.Expected{Issuer: Issuer, Time: now}, leeway)
	switch {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return Claims{}, ErrMalformed
	case err != nil:
		return Claims{}, &Refusal{own.Namespace, own.NamespaceUID, ErrExpired}
	case len(registered.Audience) != 1 || !slices.Contains(audiences, Audience(registered.Audience[0])):
		return Claims{}, &Refusal{own.Namespace, own.NamespaceUID, ErrAudience}
	}
	return Claims{
		Namespace: own.Namespace, NamespaceUID: own.NamespaceUID, Generation: own.Generation, Audience: Audience(registered.Audience[0]),
		IssuedAt: registered.IssuedAt.Time().UTC(), Expires: registered.Expiry.Time().UTC(),
	}, nil
}
