// Package identity finds out who is calling a proxy.
//
// A caller shows a berth token: as the password of Basic authentication, under
// any user name, or as a Bearer token. The token is good when one of the
// published keys signed it, when it is in its time and of an audience that this
// proxy takes, and when the namespace that it names is still the one that it was made
// for: a namespace that was deleted and made anew under the same name is
// another one, and one whose tokens were revoked says another generation than they do. What comes out is an Identity: the namespace with its labels as
// they are now, and its UID. What that namespace may do is for access to say.
//
// A token that was verified is remembered by its hash, so that the signature is
// checked once and not on each of the requests of a pull. Its time and its
// namespace are checked on every request, and when the keys are replaced
// everything is forgotten: a key that was withdrawn opens nothing from then on.
//
// No error of this package holds any of a token.
package identity

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"berth.dev/berth/access"
	"berth.dev/berth/token"
)

// mostVerified bounds the tokens that are remembered: some for each of 5,000 namespaces.
const mostVerified = 16384

// The reasons for which Authenticate refuses a request.
var (
	// ErrNoCredentials: the request carries no token at all.
	ErrNoCredentials = errors.New("no token: sign in with any user name and a berth token as the password")
	// ErrToken: the token is no good. It wraps one of the errors of token.PublicKeys.Verify, which says why.
	ErrToken = errors.New("token refused")
	// ErrNamespace: the token is good, but its namespace is gone, or was deleted and made anew.
	ErrNamespace = errors.New("the token's namespace is gone, or was deleted and made anew since; use a token that was made for it now")
	// ErrRevoked: the token is good, but those of its namespace were revoked since.
	ErrRevoked = errors.New("the tokens of its namespace were revoked since; use one that was made for it now, which a Pod is given when it is made anew")
)

// Refusal is an error about a token that Berth made for a namespace, which may be told of it.
type Refusal struct {
	// Namespace is whose token it is.
	Namespace string
	// Err says why it is no good.
	Err error
}

// Error implements error.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap is for errors.Is.
func (r *Refusal) Unwrap() error { return r.Err }

// Identity is a caller whose token is good.
type Identity struct {
	access.Caller
	// UID is that of the Namespace object.
	UID string
	// Audience is what the token is good for.
	Audience token.Audience
}

// Namespace is what an Identity needs of a Namespace object.
type Namespace struct {
	// UID tells namesakes apart.
	UID string
	// Labels may not be changed.
	Labels map[string]string
	// Generation is what its tokens say where they were not revoked.
	Generation string
}

// Namespaces knows the Namespace objects that exist.
type Namespaces interface {
	// Namespace returns the one of that name, if there is one.
	Namespace(name string) (Namespace, bool)
}

// Authenticator authenticates requests for some audiences. Make it by New. Safe
// for concurrent use.
type Authenticator struct {
	audiences  []token.Audience
	keys       func() *token.PublicKeys
	namespaces Namespaces
	now        func() time.Time
	pods       Pods // nil: tokens are taken from everywhere
	current    atomic.Pointer[generation]
}

// generation is a set of keys with the tokens that they have verified.
type generation struct {
	keys     *token.PublicKeys
	verified *lru.Cache[[sha256.Size]byte, token.Claims]
}

// New returns an authenticator of tokens of any of the audiences. It asks keys on every
// request; another pointer than last time says that the keys were replaced, and
// nil that there are none yet, so every token is refused. The Load of an
// atomic.Pointer is such a function.
func New(keys func() *token.PublicKeys, namespaces Namespaces, now func() time.Time, audiences ...token.Audience) *Authenticator {
	return &Authenticator{audiences: audiences, keys: keys, namespaces: namespaces, now: now}
}

// Authenticate returns who sent the request. The errors wrap ErrNoCredentials,
// ErrToken, ErrNamespace, ErrRevoked or ErrSource.
func (a *Authenticator) Authenticate(r *http.Request) (Identity, error) {
	raw, ok := shown(r)
	if !ok {
		return Identity{}, ErrNoCredentials
	}
	caller, err := a.Verify(raw)
	if err == nil {
		err = a.Locate(r.Context(), caller, r.RemoteAddr)
	}
	if err != nil {
		return Identity{}, err
	}
	return caller, nil
}

// Verify returns whose token it is. The errors wrap ErrToken, ErrNamespace or ErrRevoked. An
// error about a token that Berth made for a namespace that there is, is a *Refusal.
func (a *Authenticator) Verify(raw string) (Identity, error) {
	claims, err := a.verify(raw)
	if err != nil {
		return Identity{}, a.refuse(fmt.Errorf("%w: %w", ErrToken, err))
	}
	namespace, ok := a.namespaces.Namespace(claims.Namespace)
	if !ok || namespace.UID != claims.NamespaceUID {
		return Identity{}, fmt.Errorf("namespace '%s': %w", claims.Namespace, ErrNamespace)
	}
	if namespace.Generation != claims.Generation {
		return Identity{}, &Refusal{claims.Namespace, fmt.Errorf("namespace '%s': %w", claims.Namespace, ErrRevoked)}
	}
	return Identity{
		Caller:   access.Caller{Namespace: claims.Namespace, Labels: namespace.Labels},
		UID:      claims.NamespaceUID,
		Audience: claims.Audience,
	}, nil
}

// refuse adds to an error whose token it is about, where Berth made it for a namespace that there is.
func (a *Authenticator) refuse(err error) error {
	signed, ok := errors.AsType[*token.Refusal](err)
	if !ok {
		return err
	}
	if namespace, ok := a.namespaces.Namespace(signed.Namespace); !ok || namespace.UID != signed.NamespaceUID {
		return err
	}
	return &Refusal{signed.Namespace, err}
}

// shown returns the token that the request shows.
func shown(r *http.Request) (string, bool) {
	if _, password, ok := r.BasicAuth(); ok {
		return password, password != ""
	}
	scheme, raw, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	raw = strings.TrimLeft(raw, " ")
	return raw, raw != ""
}

// verify is PublicKeys.Verify with a memory. What is remembered counts only
// well within the token's time; at its edges the token is verified anew.
func (a *Authenticator) verify(raw string) (token.Claims, error) {
	if len(raw) > token.MaxLength {
		return token.Claims{}, token.ErrMalformed
	}
	g := a.generation()
	var buffer [token.MaxLength]byte // on the stack, for there is one token with each request
	now, hash := a.now(), sha256.Sum256(buffer[:copy(buffer[:], raw)])
	if claims, ok := g.verified.Get(hash); ok && now.Before(claims.Expires) && !now.Before(claims.IssuedAt) {
		return claims, nil
	}
	claims, err := g.keys.Verify(raw, now, a.audiences...)
	if err != nil {
		return token.Claims{}, err
	}
	g.verified.Add(hash, claims)
	return claims, nil
}

// generation returns the memory that belongs to the keys as they are now.
func (a *Authenticator) generation() *generation {
	keys := a.keys()
	if g := a.current.Load(); g != nil && g.keys == keys {
		return g
	}
	g := &generation{keys: keys}
	if keys == nil {
		g.keys = &token.PublicKeys{}
	}
	g.verified, _ = lru.New[[sha256.Size]byte, token.Claims](mostVerified) // fails only for a size below 1
	if keys != nil {
		a.current.Store(g)
	}
	return g
}
