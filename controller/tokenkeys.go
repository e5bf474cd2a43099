package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/token"
)

// TokenKeys keeps the keys that sign berth tokens, and publishes their public
// halves. It is a manager.Runnable of the leader.
type TokenKeys struct {
	// Client writes, Reader reads from the API server.
	Client client.Client
	Reader client.Reader
	// Rotation says how long keys live.
	Rotation token.Rotation
	// Changed is called when Keys returns the first keys, and others than before.
	Changed func()
	// Now is the clock.
	Now func() time.Time

	current atomic.Pointer[token.Keys]
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*TokenKeys) NeedLeaderElection() bool { return true }

// Start keeps the keys until the context ends.
func (k *TokenKeys) Start(ctx context.Context) error {
	return repeat(ctx, "keep the token keys", k.Now, k.step)
}

// Keys returns the keys once they are published.
func (k *TokenKeys) Keys() (token.Keys, bool) {
	keys := k.current.Load()
	if keys == nil {
		return token.Keys{}, false
	}
	return *keys, true
}

// step writes the private keys before it publishes the public ones, and
// publishes them before it signs: no token is ever signed by a key that may be lost.
func (k *TokenKeys) step(ctx context.Context) (time.Time, error) {
	stored, err := readSecret(ctx, k.Reader, v1alpha1.TokenKeys)
	if err != nil {
		return time.Time{}, err
	}
	var keys token.Keys
	if jwks, ok := stored.Data[v1alpha1.TokenKeysFile]; ok {
		if keys, err = token.ParseKeys(jwks); err != nil {
			return time.Time{}, fmt.Errorf("read Secret '%s': %w; delete it, and Berth makes new keys and pull secrets", v1alpha1.TokenKeys, err)
		}
	}
	keys, changed, again, err := keys.Step(k.Now(), k.Rotation)
	if err != nil {
		return time.Time{}, err
	}
	if changed {
		private, err := keys.Marshal()
		if err != nil {
			return time.Time{}, fmt.Errorf("encode the token keys: %w", err)
		}
		if err := writeSecret(ctx, k.Client, stored, map[string][]byte{v1alpha1.TokenKeysFile: private}); err != nil {
			return time.Time{}, err
		}
	}
	public, err := json.Marshal(keys.Public())
	if err != nil {
		return time.Time{}, fmt.Errorf("encode the public token keys: %w", err)
	}
	if err := publish(ctx, k.Reader, k.Client, v1alpha1.TokenKeys, map[string]string{v1alpha1.TokenKeysFile: string(public)}); err != nil {
		return time.Time{}, err
	}
	if before := k.current.Swap(&keys); before == nil || before.String() != keys.String() {
		k.Changed()
	}
	return again, nil
}
