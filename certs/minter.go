package certs

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

const (
	// mostLeaves bounds the cache: 10,000 Connectors and some.
	mostLeaves = 16384
	// leafCacheTime is well below leafLife, so that a leaf is never served near its end.
	leafCacheTime = leafLife / 7
)

// ErrUnknownName is returned to a TLS client that asks for a name that is not served.
var ErrUnknownName = errors.New("no certificate for this name")

// Subjects says what a certificate for a server name holds: the names of the
// SNI that the client sent, or, for an empty one, of the default certificate.
// It returns nothing for a name that is not served.
type Subjects func(serverName string) (names []string, addresses []netip.Addr)

// Minter gives TLS servers their certificates: minted when a name is first
// asked for, once even under load, and cached. Safe for concurrent use.
type Minter struct {
	subjects Subjects
	now      func() time.Time
	current  atomic.Pointer[generation]
}

// generation is an authority with what it has minted; both are replaced together.
type generation struct {
	authorities Authorities
	leaves      *lru.Cache[string, *tls.Certificate]
	minting     singleflight.Group
}

// NewMinter returns a minter without an authority: until Use, every handshake fails.
func NewMinter(subjects Subjects, now func() time.Time) *Minter {
	return &Minter{subjects: subjects, now: now}
}

// Use replaces the authorities. Certificates minted before are forgotten.
func (m *Minter) Use(as Authorities) {
	leaves, _ := lru.New[string, *tls.Certificate](mostLeaves) // fails only on a size that is not positive
	m.current.Store(&generation{authorities: as, leaves: leaves})
}

// Ready reports whether there is an authority to sign with.
func (m *Minter) Ready() bool {
	g := m.current.Load()
	return g != nil && len(g.authorities) > 0
}

// GetCertificate is for tls.Config.
func (m *Minter) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	g := m.current.Load()
	if g == nil {
		return nil, errors.New("no certificate authority yet")
	}
	name, now := strings.ToLower(strings.TrimSuffix(hello.ServerName, ".")), m.now()
	if leaf, ok := g.cached(name, now); ok {
		return leaf, nil
	}
	names, addresses := m.subjects(name)
	if len(names)+len(addresses) == 0 {
		return nil, ErrUnknownName
	}
	leaf, err, _ := g.minting.Do(name, func() (any, error) { return g.mint(name, names, addresses, now) })
	if err != nil {
		return nil, err
	}
	return leaf.(*tls.Certificate), nil //nolint:forcetypeassert // mint returns nothing else
}

func (g *generation) cached(name string, now time.Time) (*tls.Certificate, bool) {
	leaf, ok := g.leaves.Get(name)
	if !ok || !now.Before(leaf.Leaf.NotBefore.Add(skew+leafCacheTime)) || !now.Before(leaf.Leaf.NotAfter) {
		return nil, false
	}
	return leaf, true
}

func (g *generation) mint(name string, names []string, addresses []netip.Addr, now time.Time) (*tls.Certificate, error) {
	if leaf, ok := g.cached(name, now); ok { // another call has just minted it
		return leaf, nil
	}
	authority, ok := g.authorities.Signing(now)
	if !ok {
		return nil, errors.New("no certificate authority yet")
	}
	leaf, err := authority.Leaf(now, names, addresses)
	if err != nil {
		return nil, err
	}
	g.leaves.Add(name, leaf)
	return leaf, nil
}
