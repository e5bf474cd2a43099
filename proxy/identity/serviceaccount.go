package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	authenticationv1 "k8s.io/api/authentication/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/token"
)

// AudienceFiles is the audience of an Identity that a ServiceAccount token gave.
const AudienceFiles token.Audience = v1alpha1.TokenAudience

const (
	// maxServiceAccountToken is longer than the API server makes any.
	maxServiceAccountToken = 8 << 10
	// freshFor is how long an answer of the API server is taken without asking again: so long may a token outlive its Pod.
	freshFor = 2 * time.Minute
	// goodFor is how long it is taken while the API server does not answer.
	goodFor = 10 * time.Minute
	// refusedFor is how long a refusal is taken.
	refusedFor = 10 * time.Second
	// mostReviewed bounds the tokens that are remembered, good and refused, each.
	mostReviewed = 1 << 16
	// reviewsPerSecond and reviewBurst bound what the API server is asked.
	reviewsPerSecond = 100
	reviewBurst      = 400
	// reviewTimeout bounds one question.
	reviewTimeout = 5 * time.Second
)

// ErrUnavailable says that the token could not be checked, because the API server did not
// answer or was asked too often. Another attempt may be more lucky.
var ErrUnavailable = errors.New("token cannot be checked now, because the API server does not answer")

var errRefused = fmt.Errorf("%w: the API server refuses it; is its Pod still there?", ErrToken)

// Reviews asks the API server whether a token is good: the create of TokenReviews.
type Reviews func(ctx context.Context, review *authenticationv1.TokenReview) (*authenticationv1.TokenReview, error)

// ServiceAccounts authenticates requests with a Pod's ServiceAccount token of
// the audience v1alpha1.TokenAudience. Make it by NewServiceAccounts. Safe for
// concurrent use.
//
// What cannot be such a token, by its claims or because the cluster did not sign
// it, is refused without asking anybody. All else the API server decides, which knows of revoked tokens and ended Pods:
// its answer is taken for two minutes, and for ten while it does not answer.
// Whom nobody has verified is refused then.
type ServiceAccounts struct {
	reviews    Reviews
	keys       *clusterKeys
	namespaces Namespaces
	now        func() time.Time

	flight  singleflight.Group
	limit   *rate.Limiter
	good    *lru.Cache[[sha256.Size]byte, reviewed]
	refused *lru.Cache[[sha256.Size]byte, time.Time] // until when
}

// reviewed is a token that the API server took.
type reviewed struct {
	namespace string
	uid       string // of the Namespace, as it was then
	at        time.Time
	expires   time.Time
}

// NewServiceAccounts returns an authenticator that asks reviews, about tokens that are signed with the cluster's keys.
func NewServiceAccounts(reviews Reviews, keys KeysOfCluster, namespaces Namespaces, now func() time.Time) *ServiceAccounts {
	good, _ := lru.New[[sha256.Size]byte, reviewed](mostReviewed)     // fails only for a size below 1
	refused, _ := lru.New[[sha256.Size]byte, time.Time](mostReviewed) // likewise
	return &ServiceAccounts{
		reviews: reviews, keys: &clusterKeys{fetch: keys, now: now}, namespaces: namespaces, now: now,
		limit: rate.NewLimiter(reviewsPerSecond, reviewBurst), good: good, refused: refused,
	}
}

// Bearer returns the token that a request shows, as the password of Basic
// authentication or as a Bearer token; empty: none.
func Bearer(r *http.Request) string {
	raw, _ := shown(r)
	return raw
}

// Authenticate returns who sent the request. The errors wrap ErrNoCredentials,
// ErrToken, ErrNamespace or ErrUnavailable, and hold nothing of the token.
func (s *ServiceAccounts) Authenticate(r *http.Request) (Identity, error) {
	raw, ok := shown(r)
	if !ok {
		return Identity{}, ErrNoCredentials
	}
	found, err := s.verify(r.Context(), raw)
	if err != nil {
		return Identity{}, err
	}
	namespace, ok := s.namespaces.Namespace(found.namespace)
	if !ok || found.uid != namespace.UID {
		return Identity{}, fmt.Errorf("namespace '%s': %w", found.namespace, ErrNamespace)
	}
	return Identity{
		Caller: access.Caller{Namespace: found.namespace, Labels: namespace.Labels},
		UID:    namespace.UID, Audience: AudienceFiles,
	}, nil
}

// Verify returns whose token it is, with the errors of Authenticate.
func (s *ServiceAccounts) Verify(raw string) (Identity, error) {
	return s.Authenticate(&http.Request{Header: http.Header{"Authorization": {"Bearer " + raw}}})
}

// verify asks the memory, and then the API server.
func (s *ServiceAccounts) verify(ctx context.Context, raw string) (reviewed, error) {
	if len(raw) > maxServiceAccountToken {
		return reviewed{}, fmt.Errorf("%w: %w", ErrToken, token.ErrMalformed)
	}
	key, now := sha256.Sum256([]byte(raw)), s.now()
	known, ok := s.good.Get(key)
	ok = ok && now.Before(known.expires)
	if ok && now.Sub(known.at) < freshFor {
		return known, nil
	}
	if until, no := s.refused.Get(key); no && now.Before(until) {
		return reviewed{}, errRefused
	}
	signed, claims, err := peek(raw, now)
	if err != nil {
		return reviewed{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	switch err := s.keys.check(ctx, signed); {
	case errors.Is(err, ErrUnavailable):
		return reviewed{}, err
	case err != nil:
		return reviewed{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	asked, err := s.ask(ctx, key, raw, claims)
	if errors.Is(err, ErrUnavailable) && ok && now.Sub(known.at) < goodFor {
		return known, nil
	}
	return asked, err
}

// ask asks the API server, once for all who ask for the same token at a time.
func (s *ServiceAccounts) ask(ctx context.Context, key [sha256.Size]byte, raw string, claims jwt.Claims) (reviewed, error) {
	answer, err, _ := s.flight.Do(string(key[:]), func() (any, error) {
		if !s.limit.AllowN(s.now(), 1) {
			return reviewed{}, ErrUnavailable
		}
		// Who waits for the answer may be another than who asked first.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTimeout)
		defer cancel()
		review, err := s.reviews(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{
			Token: raw, Audiences: []string{v1alpha1.TokenAudience},
		}})
		if err != nil {
			return reviewed{}, ErrUnavailable // the error may have the request in it
		}
		return s.take(key, review, claims)
	})
	found, _ := answer.(reviewed)
	return found, err
}

// take remembers what the API server says.
func (s *ServiceAccounts) take(key [sha256.Size]byte, review *authenticationv1.TokenReview, claims jwt.Claims) (reviewed, error) {
	namespace, isServiceAccount := namespaceOf(review.Status.User.Username)
	if !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, v1alpha1.TokenAudience) || !isServiceAccount {
		s.good.Remove(key)
		s.refused.Add(key, s.now().Add(refusedFor))
		return reviewed{}, errRefused
	}
	object, ok := s.namespaces.Namespace(namespace)
	if !ok { // it is so new that the watch has not told of it
		return reviewed{}, fmt.Errorf("namespace '%s': %w", namespace, ErrNamespace)
	}
	found := reviewed{namespace: namespace, uid: object.UID, at: s.now(), expires: claims.Expiry.Time()}
	s.good.Add(key, found)
	return found, nil
}

// namespaceOf reads the user name of a ServiceAccount.
func namespaceOf(user string) (string, bool) {
	name, ok := strings.CutPrefix(user, "system:serviceaccount:")
	namespace, account, colon := strings.Cut(name, ":")
	return namespace, ok && colon && namespace != "" && account != ""
}

// peek reads the claims of what may be such a token, without a signature's
// word for them: what is not in its time, or for somebody else, nobody need be asked about.
func peek(raw string, now time.Time) (*jwt.JSONWebToken, jwt.Claims, error) {
	var claims jwt.Claims
	parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
	})
	if err != nil || parsed.UnsafeClaimsWithoutVerification(&claims) != nil || claims.Expiry == nil {
		return nil, claims, token.ErrMalformed
	}
	if !claims.Expiry.Time().After(now) {
		return nil, claims, token.ErrExpired
	}
	if !slices.Contains(claims.Audience, v1alpha1.TokenAudience) {
		return nil, claims, token.ErrAudience
	}
	return parsed, claims, nil
}

// Either authenticates requests by berth tokens, and by ServiceAccount tokens.
type Either struct {
	Berth           *Authenticator
	ServiceAccounts *ServiceAccounts
}

// Authenticate returns who sent the request, with the errors of the two.
func (e Either) Authenticate(r *http.Request) (Identity, error) {
	raw, ok := shown(r)
	if !ok {
		return Identity{}, ErrNoCredentials
	}
	found, err := e.Verify(raw)
	if err == nil {
		err = e.Locate(r.Context(), found, r.RemoteAddr)
	}
	if err != nil {
		return Identity{}, err
	}
	return found, nil
}

// Locate is that of the Authenticator: a ServiceAccount token is its Pod's own, and ends with it.
func (e Either) Locate(ctx context.Context, caller Identity, remote string) error {
	return e.Berth.Locate(ctx, caller, remote)
}

// Verify returns whose token it is, with the errors of the two. What cannot be
// a berth token may be the other.
func (e Either) Verify(raw string) (Identity, error) {
	found, err := e.Berth.Verify(raw)
	if !errors.Is(err, token.ErrMalformed) && !errors.Is(err, token.ErrUnknownKey) {
		return found, err
	}
	other, otherwise := e.ServiceAccounts.Verify(raw)
	if errors.Is(otherwise, token.ErrMalformed) {
		return found, err
	}
	return other, otherwise
}
