package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
)

// ErrUnknown is the error of a dial before it is known where the API server and Berth run.
var ErrUnknown = errors.New("nothing is dialled before it is known where the API server and Berth run")

// Whose an endpoint is, in the words of an error.
const (
	ofAPIServer = "the API server"
	ofBerth     = "Berth itself"
)

// Endpoints are where the API server and Berth run, which changes while a Dialer keeps away from there. The zero value
// knows nothing yet, so that nothing is dialled. Safe for concurrent use; a dial waits for nobody.
type Endpoints struct {
	known atomic.Pointer[owners]
}

// owners say whose an address is, or one port of it.
type owners struct {
	addresses map[netip.Addr]string
	ports     map[netip.AddrPort]string
}

// Set takes over where they run now, and forgets what was known before. Port 0 stands for every port. An API server is
// denied with its port; Berth at every port, metrics and probes and all, but where an API server has the address, too.
func (e *Endpoints) Set(apiServer, berth []netip.AddrPort) {
	o := &owners{addresses: map[netip.Addr]string{}, ports: map[netip.AddrPort]string{}}
	nodes := make(map[netip.Addr]bool, len(apiServer))
	for _, at := range apiServer {
		o.add(at, ofAPIServer)
		nodes[at.Addr().Unmap()] = true
	}
	for _, at := range berth {
		if !nodes[at.Addr().Unmap()] {
			at = netip.AddrPortFrom(at.Addr(), 0)
		}
		o.add(at, ofBerth)
	}
	e.known.Store(o)
}

// Known reports whether anything is.
func (e *Endpoints) Known() bool { return e.known.Load() != nil }

// check returns an error for an endpoint, and for everything as long as none is known.
func (e *Endpoints) check(to netip.AddrPort) error {
	o := e.known.Load()
	if o == nil {
		return ErrUnknown
	}
	owner, denied := o.addresses[to.Addr()]
	if !denied {
		owner, denied = o.ports[to]
	}
	if denied {
		return fmt.Errorf("%w: %s is %s", ErrForbidden, to, owner)
	}
	return nil
}

func (o *owners) add(at netip.AddrPort, owner string) {
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if at.Port() == 0 {
		o.addresses[at.Addr()] = owner
	} else {
		o.ports[at] = owner
	}
}
