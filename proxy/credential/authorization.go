package credential

import (
	"context"
	"net/http"
	"time"

	"berth.dev/berth/access"
	"berth.dev/berth/bearer"
)

const (
	// settled is how old a token is that a registry may have come to refuse for another reason than what it was
	// granted: one that is younger is not asked for again.
	settled = 5 * time.Second
	// lookEvery is how often the Secret of a refused credential is looked at.
	lookEvery = 20 * time.Millisecond
)

// Authorization is what goes with one request: the credential itself, a token,
// or nothing, which is the zero value.
type Authorization struct {
	session *session
	// held is the token, nil where the credential itself goes.
	held *held
	// fresh tells that the token was asked for on behalf of this request.
	fresh bool
}

// Authorize puts it into a request, in the place of any that is there.
func (a Authorization) Authorize(r *http.Request) {
	switch {
	case a.held != nil:
		a.held.token.Authorize(r)
	case a.session != nil:
		a.session.basic.Authorize(r)
	default:
		delete(r.Header, "Authorization")
	}
}

// In reports whether a text holds it.
func (a Authorization) In(text string) bool {
	return a.held != nil && a.held.token.In(text) || a.session != nil && a.session.basic.In(text)
}

// Exchanged reports whether the registry or its token service took the credential,
// so that the registry, where it refuses the request, does not refuse the credential.
func (a Authorization) Exchanged() bool {
	return a.held != nil && !a.session.basic.IsZero() || a.session != nil && a.session.standing.isProven()
}

// target is a registry and the way there.
type target struct {
	connector *access.Connector
	via       http.RoundTripper
}

// Authorize returns what authorises a request that needs the scopes. Without
// scopes that is the credential itself. A token is asked for through via, which
// is the way to the registry too. The errors are *secret.Problem, *bearer.Error, ErrRefused,
// that of via when the registry cannot be asked what it wants, and that of the context.
func (s *Source) Authorize(ctx context.Context, c *access.Connector, via http.RoundTripper, scopes []bearer.Scope) (Authorization, error) {
	for {
		session, err := s.session(ctx, c)
		if err != nil {
			return Authorization{}, err
		}
		a, err := session.authorize(ctx, target{c, via}, scopes)
		if !isRefusal(err) || !s.newer(ctx, c, session) {
			return a, err
		}
	}
}

// Again returns what else may authorise a request after the registry refused it
// with status 401 and this header; ok is false where there is nothing else.
func (s *Source) Again(ctx context.Context, c *access.Connector, via http.RoundTripper, refused Authorization, header http.Header, scopes []bearer.Scope) (a Authorization, ok bool, err error) {
	challenge, hasTokens := bearer.ParseChallenge(header)
	switch {
	case refused.session == nil:
		return Authorization{}, false, nil
	case refused.held != nil:
		return s.againWithout(ctx, target{c, via}, refused, challenge, hasTokens)
	case hasTokens:
		refused.session.learnt.Store(&learnt{tokens: true, challenge: challenge, at: time.Now()})
		if len(scopes) == 0 {
			scopes = challenge.Scopes
		}
		return s.authorizeWith(ctx, target{c, via}, join(scopes))
	case !refused.session.basic.IsZero():
		refused.session.standing.doubt()
		if s.newer(ctx, c, refused.session) {
			a, err = s.Authorize(ctx, c, via, scopes)
			return a, err == nil, err
		}
		refused.session.standing.mistrust()
		if _, err = refused.session.itself(ctx, target{c, via}); isRefusal(err) {
			return Authorization{}, false, err
		}
	}
	return Authorization{}, false, nil
}

// againWithout is Again after the registry refused a token.
func (s *Source) againWithout(ctx context.Context, to target, refused Authorization, challenge bearer.Challenge, hasTokens bool) (a Authorization, ok bool, err error) {
	session, held := refused.session, refused.held
	dropped := refused.drop(challenge)
	switch {
	case !hasTokens && !session.basic.IsZero(): // Harbor's catalog, which takes no token
		a, err = session.itself(ctx, to)
		return a, err == nil, err
	case hasTokens && !covers(held.scopes, challenge.Scopes):
		session.learnt.Store(&learnt{tokens: true, challenge: challenge, at: time.Now()})
		return s.authorizeWith(ctx, to, join(challenge.Scopes))
	case dropped:
		return s.authorizeWith(ctx, to, held.scopes)
	}
	return Authorization{}, false, nil
}

// Drop sees to it that what the registry refused with this header authorises no
// other request, but for a credential that turns out to be good. It is for
// requests that cannot be sent again.
func (a Authorization) Drop(header http.Header) {
	challenge, _ := bearer.ParseChallenge(header)
	switch {
	case a.held != nil:
		a.drop(challenge)
	case a.session != nil:
		a.session.standing.mistrust()
	}
}

// drop forgets a refused token, and reports whether another one may do better.
func (a Authorization) drop(challenge bearer.Challenge) bool {
	young := a.fresh || time.Since(a.held.token.Issued) < settled
	if young && challenge.Error != bearer.InvalidToken {
		return false
	}
	a.session.drop(a.held)
	return true
}

// authorizeWith returns a token of the scopes, whatever the registry was thought to want.
func (s *Source) authorizeWith(ctx context.Context, to target, scopes bearer.Scope) (a Authorization, ok bool, err error) {
	for {
		session, err := s.session(ctx, to.connector)
		if err != nil {
			return Authorization{}, false, err
		}
		a, err := session.withToken(ctx, to, scopes)
		if !isRefusal(err) || !s.newer(ctx, to.connector, session) {
			return a, err == nil, err
		}
	}
}

// newer waits for another version of the credential than that of a session,
// in which it was refused, and reports whether there is one.
func (s *Source) newer(ctx context.Context, c *access.Connector, refused *session) bool {
	if c.Spec.Auth == nil {
		return false
	}
	ticks := time.NewTicker(lookEvery)
	defer ticks.Stop()
	for {
		if found, err := s.credential(ctx, c); err == nil && versionOf(found) != refused.version {
			return true
		}
		if !refused.standing.hoping() {
			return false
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return false
		}
	}
}
