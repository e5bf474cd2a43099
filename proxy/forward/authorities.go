package forward

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/certs"
	"berth.dev/berth/route"
)

// Authorities are the certificate authorities that sign for the hosts of
// Connectors, one for each. Make it by NewAuthorities. Safe for concurrent use.
type Authorities struct {
	now func() time.Time

	mu     sync.RWMutex
	byName map[route.Connector]authority
}

type authority struct {
	*certs.Minter
	uid types.UID
	all certs.Authorities
}

// NewAuthorities returns authorities of no Connector.
func NewAuthorities(now func() time.Time) *Authorities {
	return &Authorities{now: now, byName: map[route.Connector]authority{}}
}

// Use replaces the authority of a Connector, which its UID tells from a deleted namesake.
func (a *Authorities) Use(name route.Connector, uid types.UID, all certs.Authorities) {
	minter := certs.NewMinter(subjects, a.now)
	minter.Use(all)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.byName[name] = authority{minter, uid, all}
}

// Forget drops the authority of a Connector that is gone.
func (a *Authorities) Forget(name route.Connector) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byName, name)
}

// subjects are what the certificate of a host names: it, and nothing else.
func subjects(host string) (names []string, addresses []netip.Addr) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return nil, []netip.Addr{ip}
	}
	return []string{host}, nil
}

var errNoAuthority = errors.New("no Connector's certificate authority may sign for this host")

// first returns the authority of the first of the candidates that may sign for the host.
func (a *Authorities) first(candidates []candidate, host string) (authority, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, c := range candidates {
		held, ok := a.byName[c.Connector.Connector]
		if !ok || held.uid != c.UID {
			continue
		}
		if signing, ok := held.all.Signing(a.now()); ok && signing.Scope().Covers(host) {
			return held, true
		}
	}
	return authority{}, false
}

// cover reports whether there is an authority that may sign for the host.
func (a *Authorities) cover(candidates []candidate, host string) bool {
	_, ok := a.first(candidates, host)
	return ok
}

// certificate returns that of the host, minted once even under load.
func (a *Authorities) certificate(candidates []candidate, host string) (*tls.Certificate, error) {
	held, ok := a.first(candidates, host)
	if !ok {
		return nil, errNoAuthority
	}
	return held.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
}
