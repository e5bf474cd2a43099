package identity

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/access"
	"berth.dev/berth/token"
)

// pods are namespaces by address.
type pods struct {
	mu    sync.Mutex
	asked int
	at    map[string][]string
	late  map[string][]string // known once asked a second time
}

func (p *pods) Namespaces(address netip.Addr) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked++; p.asked > 1 && p.late[address.String()] != nil {
		return p.late[address.String()]
	}
	return p.at[address.String()]
}

func TestLocate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		audience token.Audience
		remote   string
		ok       bool
	}{
		"its own Pod":              {token.AudienceProxy, "10.1.0.1:4711", true},
		"its own Pod, IPv6":        {token.AudienceProxy, "[2001:db8::1]:4711", true},
		"its own Pod, IPv4 in 6":   {token.AudienceProxy, "[::ffff:10.1.0.1]:4711", true},
		"another namespace's":      {token.AudienceProxy, "10.1.0.2:4711", false},
		"a node with Pods of both": {token.AudienceProxy, "10.0.0.1:4711", true},
		"a Pod just begun":         {token.AudienceProxy, "10.1.0.3:4711", true},
		"another's, just begun":    {token.AudienceProxy, "10.1.0.4:4711", false},
		"nobody's":                 {token.AudienceProxy, "192.0.2.1:4711", false},
		"no address":               {token.AudienceProxy, "@", false},
		"kubelet's, from the node": {token.AudiencePull, "10.0.0.9:4711", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newWorld(t).Authenticator
			a.CheckSources(&pods{
				at:   map[string][]string{"10.1.0.1": {"demo"}, "2001:db8::1": {"demo"}, "10.1.0.2": {"other"}, "10.0.0.1": {"other", "demo"}},
				late: map[string][]string{"10.1.0.3": {"demo"}, "10.1.0.4": {"other"}},
			})
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err := a.Locate(ctx, Identity{Caller: access.Caller{Namespace: "demo"}, Audience: tc.audience}, tc.remote)
			if tc.ok && err != nil || !tc.ok && !errors.Is(err, ErrSource) {
				t.Errorf("Locate returns %v", err)
			}
			if refused, is := errors.AsType[*Refusal](err); !tc.ok && (!is || refused.Namespace != "demo") {
				t.Errorf("nobody is told: %v", err)
			}
		})
	}
}

// Authenticate asks for the address of the request, and only where that was turned on.
func TestAuthenticateLocates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := New(w.public.Load, w.namespaces, func() time.Time { return w.now }, token.AudiencePull, token.AudienceProxy)
	claims := w.good()
	claims.Audience = token.AudienceProxy
	r := basic(w.sign(t, claims))
	r.RemoteAddr = "10.1.0.2:4711"
	if _, err := a.Authenticate(r); err != nil {
		t.Errorf("turned off: %v", err)
	}
	a.CheckSources(&pods{at: map[string][]string{"10.1.0.2": {"other"}}})
	if _, err := a.Authenticate(r); !errors.Is(err, ErrSource) {
		t.Errorf("from another namespace's Pod: %v", err)
	}
	r.RemoteAddr = "10.1.0.1:4711"
	r.Header.Set("X-Forwarded-For", "10.1.0.1")
	a.CheckSources(&pods{at: map[string][]string{"10.1.0.1": {"demo"}}})
	if _, err := a.Authenticate(r); err != nil {
		t.Errorf("from its own: %v", err)
	}
}
