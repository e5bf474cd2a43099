package credential

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"berth.dev/berth/bearer"
	"berth.dev/berth/secret"
)

const (
	// mostTokens bounds the tokens of one Connector: one a repository and kind of request.
	mostTokens = 1024
	// flightTime is how long asking a registry or a token service may take, whoever waits for it.
	flightTime = 30 * time.Second
	// learnAgain is how long a registry's answer to what it wants counts.
	learnAgain = 15 * time.Minute
	// unsureTime is how long it counts where it was neither yes nor no.
	unsureTime = 10 * time.Second
	// deniedTime is how long a token service is not asked again for a scope that it does not grant.
	deniedTime = 10 * time.Second
	// renewAgain is how soon it is asked again when it could not renew a token that is still good.
	renewAgain = 5 * time.Second
	// spare is what a token must have left when a request sets out with it; a tenth of its life at most.
	spare = 5 * time.Second
	// discardLimit is how much of an unwanted body is read, so that its connection can be used again.
	discardLimit = 64 << 10
	pingPath     = "/v2/"
	userAgent    = "berth"
)

// session is what is known of a registry under one version of a credential.
type session struct {
	version  Version
	basic    secret.Basic
	standing *standing
	learnt   atomic.Pointer[learnt]
	tokens   *lru.Cache[bearer.Scope, *held]
	flights  singleflight.Group
}

func newSession(version Version, basic secret.Basic) *session {
	tokens, _ := lru.New[bearer.Scope, *held](mostTokens) // fails only for a size below 1
	return &session{version: version, basic: basic, standing: &standing{}, tokens: tokens}
}

// learnt is whether a registry has a token service.
type learnt struct {
	tokens    bool
	challenge bearer.Challenge
	at        time.Time
	unsure    bool
	open      bool // to everybody: what it answers says nothing about a credential
}

// stale reports whether it is time to ask again.
func (l *learnt) stale(now time.Time) bool {
	return now.Sub(l.at) > learnAgain || l.unsure && now.Sub(l.at) > unsureTime
}

// held is a token, or that there is none, for some scopes.
type held struct {
	// scopes are those that it was asked for, with spaces in between.
	scopes bearer.Scope
	token  bearer.Token
	// denied is why there is no token.
	denied error
	// renew is when to ask for another one, until when it is used no more.
	renew, until time.Time
	renewing     atomic.Bool
}

// hold returns a token as it is held: another one is asked for when a quarter of its life is left.
func hold(scopes bearer.Scope, token bearer.Token) *held {
	life := token.Expires.Sub(token.Issued)
	return &held{scopes: scopes, token: token, renew: token.Expires.Add(-life / 4), until: token.Expires.Add(-min(spare, life/10))}
}

// authorize returns what authorises a request that needs the scopes.
func (s *session) authorize(ctx context.Context, to target, scopes []bearer.Scope) (Authorization, error) {
	if len(scopes) == 0 {
		return s.itself(ctx, to)
	}
	joined := join(scopes)
	if a, ok, err := s.cached(ctx, to, joined); ok {
		return a, err
	}
	known, err := s.learn(ctx, to)
	if err != nil {
		return Authorization{}, err
	}
	if !known.tokens {
		return s.itself(ctx, to)
	}
	return s.withToken(ctx, to, joined)
}

// itself returns the credential; one that is in doubt, once it was tried.
func (s *session) itself(ctx context.Context, to target) (Authorization, error) {
	if !s.basic.IsZero() && s.standing.isDoubtful() {
		if err := s.try(alone{ctx}, to); err != nil { //nolint:contextcheck // it is the same, without its values
			return Authorization{}, err
		}
	}
	return Authorization{session: s}, nil
}

// try signs in, and returns an error where the credential is refused, or was so
// short a time ago that it is not tried. What a token service says otherwise is
// for those to know who want a token.
func (s *session) try(ctx context.Context, to target) error {
	ctx, cancel := context.WithTimeout(ctx, flightTime)
	defer cancel()
	known, err := s.learn(ctx, to)
	if err != nil {
		return err
	}
	switch {
	case known.tokens:
		if _, err := s.ask(ctx, to, ""); isRefusal(err) {
			return err
		}
		return nil
	case known.open:
		return nil
	}
	settle, err := s.standing.admit(ctx)
	if err != nil {
		return err
	}
	err = s.signIn(ctx, to)
	settle(err)
	if errors.Is(err, errUntold) {
		return nil
	}
	return err
}

// signIn asks a registry for `/v2/` with the credential.
func (s *session) signIn(ctx context.Context, to target) error {
	status, _, err := ping(ctx, to, s.basic.Authorize)
	switch {
	case err != nil:
		return err
	case status == http.StatusUnauthorized:
		return ErrRefused
	case status != http.StatusOK:
		return errUntold
	}
	return nil
}

// withToken returns a token of the scopes.
func (s *session) withToken(ctx context.Context, to target, scopes bearer.Scope) (Authorization, error) {
	if a, ok, err := s.cached(ctx, to, scopes); ok {
		return a, err
	}
	found, err := await[*held](ctx, s.exchange(ctx, to, scopes))
	if err != nil {
		return Authorization{}, err
	}
	return Authorization{session: s, held: found, fresh: true}, nil
}

// cached returns a token that is there already, or the error that is, and sees to its renewal.
func (s *session) cached(ctx context.Context, to target, scopes bearer.Scope) (a Authorization, ok bool, err error) {
	now := time.Now()
	found, ok := s.tokens.Get(scopes)
	if !ok || !now.Before(found.until) {
		return Authorization{}, false, nil
	}
	if found.denied != nil {
		return Authorization{}, true, found.denied
	}
	if now.After(found.renew) && found.renewing.CompareAndSwap(false, true) {
		s.exchange(ctx, to, scopes)
	}
	return Authorization{session: s, held: found}, true, nil
}

// drop forgets a token, unless another one has taken its place.
func (s *session) drop(old *held) {
	if found, ok := s.tokens.Peek(old.scopes); ok && found == old {
		s.tokens.Remove(old.scopes)
	}
}

// exchange asks for a token, unless somebody does already, and keeps it.
func (s *session) exchange(ctx context.Context, to target, scopes bearer.Scope) <-chan singleflight.Result {
	return s.flights.DoChan("token "+string(scopes), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(alone{ctx}), flightTime)
		defer cancel()
		found, err := s.ask(ctx, to, scopes) //nolint:contextcheck // it is for all who wait
		if err != nil {
			s.without(scopes, err)
			return (*held)(nil), err
		}
		s.tokens.Add(scopes, found)
		return found, nil
	})
}

// ask asks for a token, when the credential's turn has come.
func (s *session) ask(ctx context.Context, to target, scopes bearer.Scope) (*held, error) {
	known, err := s.learn(ctx, to)
	if err != nil {
		return nil, err
	}
	trust, err := bearer.NewTrust(to.connector.Spec)
	if err != nil {
		return nil, err
	}
	request := bearer.Request{Challenge: known.challenge, Trust: trust}
	for scope := range strings.FieldsSeq(string(scopes)) {
		request.Scopes = append(request.Scopes, bearer.Scope(scope))
	}
	if !s.basic.IsZero() {
		request.Authorize = s.basic.Authorize
	}
	settle, err := s.standing.admit(ctx)
	if err != nil {
		return nil, err
	}
	token, err := bearer.Exchange(ctx, to.via, request)
	settle(err)
	if err != nil {
		return nil, err
	}
	return hold(scopes, token), nil
}

// without keeps in mind that there is no token.
func (s *session) without(scopes bearer.Scope, err error) {
	now := time.Now()
	old, ok := s.tokens.Peek(scopes)
	e, isAnswer := errors.AsType[*bearer.Error](err)
	switch {
	case ok && old.denied == nil && now.Before(old.until): // it was to be renewed
		s.tokens.Add(scopes, &held{scopes: scopes, token: old.token, renew: now.Add(renewAgain), until: old.until})
	case isAnswer && e.Status == http.StatusForbidden:
		s.tokens.Add(scopes, &held{scopes: scopes, denied: err, until: now.Add(deniedTime)})
	}
	if isAnswer && e.Status != http.StatusForbidden && e.Status != http.StatusUnauthorized {
		s.learnt.Store(nil) // the token service may have moved
	}
}

// learn returns whether the registry has a token service. What is known already
// is looked at again now and then, but nobody waits for that.
func (s *session) learn(ctx context.Context, to target) (*learnt, error) {
	known := s.learnt.Load()
	if known != nil && !known.stale(time.Now()) {
		return known, nil
	}
	asked := s.flights.DoChan("registry", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(alone{ctx}), flightTime)
		defer cancel()
		status, header, err := ping(ctx, to, anonymous) //nolint:contextcheck // it is for all who wait
		if err != nil {
			return (*learnt)(nil), err
		}
		found := &learnt{at: time.Now()}
		if status == http.StatusUnauthorized {
			found.challenge, found.tokens = bearer.ParseChallenge(header)
		} else {
			found.open = status == http.StatusOK
			found.unsure = !found.open
		}
		s.learnt.Store(found)
		return found, nil
	})
	if known != nil {
		return known, nil
	}
	return await[*learnt](ctx, asked)
}

// ping asks a registry for `/v2/`.
func ping(ctx context.Context, to target, authorize func(*http.Request)) (status int, header http.Header, err error) {
	address := *to.connector.Address
	address.Path += pingPath
	request := (&http.Request{
		Method: http.MethodGet, URL: &address, Host: address.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"User-Agent": {userAgent}},
	}).WithContext(ctx)
	authorize(request)
	response, err := to.via.RoundTrip(request)
	if err != nil {
		return 0, nil, err
	}
	_, _ = io.CopyN(io.Discard, response.Body, discardLimit) // only for the sake of the connection
	_ = response.Body.Close()
	return response.StatusCode, response.Header, nil
}

// anonymous authorises nothing.
func anonymous(*http.Request) {}

// await waits for what others may wait for too, no longer than one's own context allows.
func await[T any](ctx context.Context, results <-chan singleflight.Result) (T, error) {
	select {
	case r := <-results:
		value, _ := r.Val.(T)
		return value, r.Err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// alone is a context without the values of the request that it comes from:
// what traces that one, to pass on what the registry says meanwhile, has
// nothing to do with a token service.
type alone struct {
	context.Context //nolint:containedctx // it is one
}

// Value implements context.Context.
func (alone) Value(any) any { return nil }

// join returns scopes as one, with spaces in between.
func join(scopes []bearer.Scope) bearer.Scope {
	if len(scopes) == 1 {
		return scopes[0]
	}
	var joined strings.Builder
	for i, scope := range scopes {
		if i > 0 {
			joined.WriteByte(' ')
		}
		joined.WriteString(string(scope))
	}
	return bearer.Scope(joined.String())
}

// covers reports whether a token of joined scopes is as good as one of all the others.
func covers(joined bearer.Scope, wanted []bearer.Scope) bool {
	for _, one := range wanted {
		covered := false
		for scope := range strings.FieldsSeq(string(joined)) {
			covered = covered || bearer.Scope(scope).Covers(one)
		}
		if !covered {
			return false
		}
	}
	return true
}
