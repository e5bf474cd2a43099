package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// leastAttempt is how long each of several addresses is given at least.
const leastAttempt = 2 * time.Second

// Resolver looks names up. *net.Resolver is one.
type Resolver interface {
	// LookupNetIP is that of net.Resolver.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Way is the way out for clients that choose where to go: each name is resolved
// once, each address checked, and that address dialled, so that a name that
// resolves differently a moment later changes nothing. Safe for concurrent use.
type Way struct {
	// Resolver looks names up.
	Resolver Resolver
	// Check returns an error that wraps ErrForbidden for an address that may not be dialled at that port; Dialer.Check is one.
	Check func(netip.AddrPort) error
	// Dial connects to an address, 'IP:port'; Dialer.DialContext is one, which checks again.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Parent returns the proxy that leads out, or nil; itself it may be nil.
	Parent func() *Parent
}

// Through returns the parent by which the way to a target goes, where the policy allows it; nil: it goes straight there.
func (w *Way) Through(ctx context.Context, p *Policy, to Target) (*Parent, error) {
	parent := w.parent(to)
	if parent == nil {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	return parent, w.admit(ctx, p, to)
}

func (w *Way) parent(to Target) *Parent {
	if w.Parent == nil {
		return nil
	}
	if parent := w.Parent(); parent != nil && parent.leads(to) {
		return parent
	}
	return nil
}

// DialContext connects to an address that a Connector's owner wrote: under no policy but that of what is never dialled. It is for http.Transport.
func (w *Way) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || w.parent(Target{host, port}) == nil {
		return w.Dial(ctx, network, address)
	}
	return w.Open(ctx, &Policy{}, Target{host, port})
}

// Open connects to a target, where the policy allows it. The error wraps
// ErrForbidden or ErrPolicy where nothing was dialled for that reason.
func (w *Way) Open(ctx context.Context, p *Policy, to Target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if parent, err := w.Through(ctx, p, to); err != nil {
		return nil, err
	} else if parent != nil {
		return parent.connect(ctx, w.Dial, to)
	}
	addresses, err := w.addresses(ctx, p, to)
	if err != nil {
		return nil, err
	}
	var last error
	for i, address := range addresses {
		conn, err := w.attempt(ctx, len(addresses)-i, address.String())
		if err == nil {
			return conn, nil
		}
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// addresses returns those of the target that may be dialled, at least one.
func (w *Way) addresses(ctx context.Context, p *Policy, to Target) ([]netip.AddrPort, error) {
	if err := p.checkHost(to.Host); err != nil {
		return nil, err
	}
	found, err := w.resolve(ctx, to)
	if err != nil {
		return nil, err
	}
	refused := fmt.Errorf("'%s' has no address", to.Host)
	allowed := make([]netip.AddrPort, 0, len(found))
	for _, address := range found {
		err := w.Check(address)
		if err == nil {
			err = p.checkAddress(to.Host, address.Addr())
		}
		if err != nil {
			refused = err
			continue
		}
		allowed = append(allowed, address)
	}
	if len(allowed) == 0 {
		return nil, refused
	}
	return allowed, nil
}

// resolve returns the addresses of the target's host, each with its port.
func (w *Way) resolve(ctx context.Context, to Target) ([]netip.AddrPort, error) {
	port, err := strconv.ParseUint(to.Port, 10, 16)
	if err != nil {
		return nil, errors.Join(ErrHost, errPort)
	}
	found, err := w.lookUp(ctx, to.Host)
	if err != nil {
		return nil, err
	}
	addresses := make([]netip.AddrPort, len(found))
	for i, ip := range found {
		addresses[i] = netip.AddrPortFrom(ip.Unmap().WithZone(""), uint16(port))
	}
	return addresses, nil
}

func (w *Way) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	return w.Resolver.LookupNetIP(ctx, "ip", host+".") // with the dot: the search list of a Pod would make other names of it
}

// attempt gives each address its part of the time that is left.
func (w *Way) attempt(ctx context.Context, left int, address string) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		part := max(time.Until(deadline)/time.Duration(left), leastAttempt)
		shorter, cancel := context.WithTimeout(ctx, part)
		defer cancel()
		ctx = shorter
	}
	return w.Dial(ctx, "tcp", address)
}
