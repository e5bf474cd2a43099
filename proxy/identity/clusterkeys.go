package identity

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/sync/singleflight"

	"berth.dev/berth/token"
)

// fetchAgain is how soon the cluster's keys are asked for anew, however many tokens name one that is not known.
const fetchAgain = 10 * time.Second

// KeysOfCluster asks the API server for the keys that ServiceAccount tokens are
// signed with: the JWK Set at `/openid/v1/jwks` (KEP-1393).
type KeysOfCluster func(context.Context) (jose.JSONWebKeySet, error)

// clusterKeys tells tokens that the cluster has signed from those that it has
// not, without asking anybody: a flood of forged ones costs the API server nothing.
type clusterKeys struct {
	fetch   KeysOfCluster
	now     func() time.Time
	flight  singleflight.Group
	fetched atomic.Pointer[fetchedKeys]
}

type fetchedKeys struct {
	keys jose.JSONWebKeySet
	// known is false where the API server has never told them: some clusters do not.
	known bool
	// at is when it was last asked.
	at time.Time
	// err is why it did not answer then.
	err error
}

// check returns nil where the cluster has signed the token, or does not tell its
// keys; else it is token.ErrForged, token.ErrUnknownKey or ErrUnavailable.
func (k *clusterKeys) check(ctx context.Context, signed *jwt.JSONWebToken) error {
	held := k.fetched.Load()
	if held == nil {
		held = k.again(ctx, nil)
	}
	err := signed.Claims(&held.keys)
	if unknown(err) && k.now().Sub(held.at) >= fetchAgain {
		held = k.again(ctx, held)
		err = signed.Claims(&held.keys)
	}
	switch {
	case err == nil || !held.known:
		return nil
	case !unknown(err):
		return token.ErrForged
	case held.err != nil:
		return ErrUnavailable
	default:
		return token.ErrUnknownKey
	}
}

// unknown reports whether there is no key of the name that a token says.
func unknown(err error) bool { return errors.Is(err, jose.ErrJWKSKidNotFound) }

// again asks for the keys, once for all who need them at a time. Those that
// were there stay while there is no answer.
func (k *clusterKeys) again(ctx context.Context, old *fetchedKeys) *fetchedKeys {
	answer, _, _ := k.flight.Do("", func() (any, error) {
		if now := k.fetched.Load(); now != old {
			return now, nil // somebody was faster
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTimeout)
		defer cancel()
		made := &fetchedKeys{}
		if old != nil {
			*made = *old
		}
		keys, err := k.fetch(ctx)
		made.at, made.err = k.now(), err
		if err == nil {
			made.keys, made.known = keys, len(keys.Keys) > 0
		}
		k.fetched.Store(made)
		return made, nil
	})
	found, _ := answer.(*fetchedKeys)
	return found
}
