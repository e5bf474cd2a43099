package main

import (
	"context"
	"testing"
	"time"

	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/token"
)

// oneNamespace is all the namespaces that there are.
type oneNamespace struct{}

// Namespace implements identity.Namespaces.
func (oneNamespace) Namespace(string) (identity.Namespace, bool) {
	return identity.Namespace{UID: "uid"}, true
}

// tokenChecks measures the look at a token that was verified before, which comes with every request. It runs in this process.
func (*stage) tokenChecks(_ context.Context, out *results) error {
	const bar = 2 * time.Microsecond
	now := time.Now()
	keys, _, _, err := token.Keys{}.Step(now, token.Rotation{Every: time.Hour, Keep: time.Hour})
	if err != nil {
		return err
	}
	public := keys.Public()
	authenticator := identity.New(func() *token.PublicKeys { return &public }, oneNamespace{}, time.Now, token.AudienceProxy)
	raw, err := keys.Sign(now, token.Claims{Namespace: "shop", NamespaceUID: "uid", Audience: token.AudienceProxy, IssuedAt: now, Expires: now.Add(time.Hour)})
	if err != nil {
		return err
	}
	if _, err := authenticator.Verify(raw); err != nil {
		return err
	}
	check := testing.Benchmark(func(b *testing.B) {
		b.Helper()
		for b.Loop() {
			if _, err := authenticator.Verify(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	out.atMost("token-check-to-2us", float64(check.NsPerOp())/float64(bar), 1, 0)
	out.atMost("token-check-allocations", float64(check.AllocsPerOp()), 0, 0)
	out.detailf("%d ns", check.NsPerOp())
	return nil
}
