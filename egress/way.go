package egress

import (
	"context"
	"fmt"
	"net"
	"net/netip"
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
	// Check returns an error that wraps ErrForbidden for an address that may not be dialled; Dialer.Check is one.
	Check func(netip.Addr) error
	// Dial connects to an address, 'IP:port'; Dialer.DialContext is one, which checks again.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Open connects to a target, where the policy allows it. The error wraps
// ErrForbidden or ErrPolicy where nothing was dialled for that reason.
func (w *Way) Open(ctx context.Context, p *Policy, to Target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addresses, err := w.addresses(ctx, p, to.Host)
	if err != nil {
		return nil, err
	}
	var last error
	for i, ip := range addresses {
		conn, err := w.attempt(ctx, len(addresses)-i, net.JoinHostPort(ip.String(), to.Port))
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

// addresses returns those of the host that may be dialled, at least one.
func (w *Way) addresses(ctx context.Context, p *Policy, host string) ([]netip.Addr, error) {
	if err := p.checkHost(host); err != nil {
		return nil, err
	}
	found, err := w.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	refused := fmt.Errorf("'%s' has no address", host)
	allowed := make([]netip.Addr, 0, len(found))
	for _, ip := range found {
		ip = ip.Unmap().WithZone("")
		err := w.Check(ip)
		if err == nil {
			err = p.checkAddress(host, ip)
		}
		if err != nil {
			refused = err
			continue
		}
		allowed = append(allowed, ip)
	}
	if len(allowed) == 0 {
		return nil, refused
	}
	return allowed, nil
}

func (w *Way) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
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
