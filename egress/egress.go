// Package egress is the way out: it decides which addresses Berth dials, for
// the registries of Connectors and for the forward proxy.
//
// The decision falls on the address that a connection is really being made to,
// after the name was resolved and once for each attempt, so a name that
// resolves differently a moment later changes nothing. Public and private
// addresses may be dialled. Loopback, link-local (metadata services are there),
// shared, reserved and multicast addresses, and IPv4 addresses dressed up in
// IPv6, never; nor the addresses that the caller denies, those of the Services
// of the API server and of Berth.
//
// Nor are the Endpoints behind these dialled, which come and go. An API server's
// address is a node's as a rule, where a registry may have another port, so it is
// denied with its port; the address of a Pod of Berth's is denied whole, unless it
// is an API server's, too. Before any are known, nothing is dialled.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// ErrForbidden is wrapped by the error of a dial to an address that Berth never dials.
var ErrForbidden = errors.New("this address is never dialled")

const (
	dialTimeout = 10 * time.Second
	keepAlive   = 30 * time.Second
)

// Dialer dials what may be dialled. Make it by NewDialer.
type Dialer struct {
	dialer   net.Dialer
	guardian *ssrf.Guardian
	denied   []netip.Prefix
	allowed  []netip.Prefix
	avoided  *Endpoints // nil: there are none
}

// NewDialer returns a dialer that refuses, beside the addresses of the package comment, those in the prefixes.
func NewDialer(denied ...netip.Prefix) *Dialer {
	d := &Dialer{
		dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive},
		denied: append(metadata(), denied...),
		guardian: ssrf.New(
			ssrf.WithAnyPort(),
			// RFC 1918 and RFC 4193: registries within an organisation.
			ssrf.WithAllowedV4Prefixes(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16")),
			ssrf.WithAllowedV6Prefixes(netip.MustParsePrefix("fc00::/7")),
		),
	}
	return d.controlled()
}

// Allowing returns a dialer that dials the addresses in the prefixes too, although they are loopback, link-local or
// reserved. What was denied stays denied. It is for development and for tests: who can write a Connector
// reaches, through such a dialer, whatever listens there.
func (d *Dialer) Allowing(prefixes ...netip.Prefix) *Dialer {
	allowing := *d
	allowing.allowed = append(slices.Clone(d.allowed), prefixes...)
	return allowing.controlled()
}

// Avoiding returns a dialer that keeps away from the endpoints too, as they are at each dial.
func (d *Dialer) Avoiding(endpoints *Endpoints) *Dialer {
	avoiding := *d
	avoiding.avoided = endpoints
	return avoiding.controlled()
}

// controlled has each connection that the dialer makes checked by itself.
func (d *Dialer) controlled() *Dialer {
	d.dialer.ControlContext = d.control
	return d
}

// DialContext is for http.Transport.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d.dialer.DialContext(ctx, network, address)
}

func (d *Dialer) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: '%s' is not an address", ErrForbidden, address)
	}
	return d.Check(to)
}

// Check returns an error that wraps ErrForbidden for an address that may not be dialled at that port.
func (d *Dialer) Check(to netip.AddrPort) error {
	ip := to.Addr()
	inside := func(p netip.Prefix) bool { return p.Contains(ip) }
	if !ip.IsValid() || slices.ContainsFunc(d.denied, inside) {
		return fmt.Errorf("%w: %s", ErrForbidden, ip)
	}
	if !slices.ContainsFunc(d.allowed, inside) && d.guardian.SafeAddr(ip) != nil {
		return fmt.Errorf("%w: %s", ErrForbidden, ip)
	}
	if d.avoided == nil {
		return nil
	}
	return d.avoided.check(to)
}

// metadata are the metadata services of clouds that are not link-local.
func metadata() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("fd00:ec2::/32"),          // AWS
		netip.MustParsePrefix("fd20:ce::254/128"),       // Google Cloud
		netip.MustParsePrefix("168.63.129.16/32"),       // Azure
		netip.MustParsePrefix("100.100.100.200/32"),     // Alibaba Cloud
		netip.MustParsePrefix("fd00:100::100:200/128"),  // Alibaba Cloud
		netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // Oracle Cloud
		netip.MustParsePrefix("fd00:42::42/128"),        // Scaleway
		netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"),  // Akamai
	}
}
