package identity

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"berth.dev/berth/token"
)

const (
	// sourceWait is how long an address that is no Pod's may yet turn out to be one: kubelet starts a container
	// before the API server knows its Pod's address.
	sourceWait = 5 * time.Second
	// sourceAgain is how often it is looked at meanwhile.
	sourceAgain = 50 * time.Millisecond
)

// ErrSource says that the token is good, but was shown from an address that is no Pod's of its namespace.
var ErrSource = fmt.Errorf("%w: it was shown from an address that is no Pod's of its namespace", ErrToken)

// Pods know which addresses Pods have.
type Pods interface {
	// Namespaces are those with a Pod that runs at the address. A Pod of the host's network runs at its node's.
	Namespaces(address netip.Addr) []string
}

// CheckSources has tokens of audience 'proxy', which Pods hold, taken only from an address of a Pod of their namespace.
// A pull comes from the node, and is not asked. It is to be called before anything else.
func (a *Authenticator) CheckSources(pods Pods) { a.pods = pods }

// Locate looks whether the caller may show its token from that address, 'IP:port', where that is asked. It waits a
// few seconds for a Pod that is so new that its address is not known. The error wraps ErrSource.
func (a *Authenticator) Locate(ctx context.Context, caller Identity, remote string) error {
	if a.pods == nil || caller.Audience != token.AudienceProxy {
		return nil
	}
	from, err := netip.ParseAddrPort(remote)
	if err != nil {
		return &Refusal{caller.Namespace, ErrSource}
	}
	address := from.Addr().Unmap().WithZone("")
	known, ok := a.owns(caller.Namespace, address)
	if ok {
		return nil
	}
	if !known && a.awaits(ctx, caller.Namespace, address) {
		return nil
	}
	return &Refusal{caller.Namespace, fmt.Errorf("namespace '%s', address %s: %w", caller.Namespace, address, ErrSource)}
}

// owns reports whether any Pod is known at the address, and whether one is the namespace's.
func (a *Authenticator) owns(namespace string, address netip.Addr) (known, ok bool) {
	for _, owner := range a.pods.Namespaces(address) {
		if owner == namespace {
			return true, true
		}
		known = true
	}
	return known, false
}

// awaits waits until some Pod is known at the address, and reports whether it is the namespace's.
func (a *Authenticator) awaits(ctx context.Context, namespace string, address netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, sourceWait)
	defer cancel()
	ticks := time.NewTicker(sourceAgain)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-ticks.C:
		}
		if known, ok := a.owns(namespace, address); known {
			return ok
		}
	}
}
