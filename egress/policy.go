package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// ErrPolicy is wrapped by the error of a connection that the administrator's policy does not allow.
var ErrPolicy = errors.New("the egress policy does not allow it")

// Mode says where clients of the forward proxy may go, where no list says otherwise.
type Mode string

// The modes.
const (
	// Open is public and private addresses.
	Open Mode = "open"
	// Public is public addresses alone.
	Public Mode = "public"
	// Connectors is nowhere: what remains are the hosts of the Connectors that the client may use.
	Connectors Mode = "connectors"
)

// Policy says where clients of the forward proxy may go, beside the hosts of
// Connectors. What Deny lists is refused, what Allow lists is allowed in every
// mode; what is in both is refused. Neither opens an address that a Dialer never
// dials. The zero value is Open.
type Policy struct {
	Mode        Mode
	Allow, Deny Destinations
}

// Destinations are hosts by name and by address. Make them by ParseDestinations.
type Destinations struct {
	names    map[string]bool // exact ones
	domains  []string        // '.example.com': all names below
	prefixes []netip.Prefix
}

// ParseDestinations reads a list of names, of '*.DOMAIN' for all names below a
// domain, of addresses and of CIDRs.
func ParseDestinations(list []string) (Destinations, error) {
	d := Destinations{names: map[string]bool{}}
	for _, entry := range list {
		if err := d.add(strings.ToLower(strings.TrimSuffix(entry, "."))); err != nil {
			return Destinations{}, fmt.Errorf("'%s' must be a host, '*.DOMAIN', an address or a CIDR: %w", entry, err)
		}
	}
	return d, nil
}

func (d *Destinations) add(entry string) error {
	if prefix, err := netip.ParsePrefix(entry); err == nil {
		d.prefixes = append(d.prefixes, prefix.Masked())
		return nil
	}
	if ip, err := netip.ParseAddr(entry); err == nil && ip.Zone() == "" {
		d.prefixes = append(d.prefixes, netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()))
		return nil
	}
	name, below := strings.CutPrefix(entry, "*.")
	if err := checkName(name); err != nil {
		return err
	}
	if below {
		d.domains = append(d.domains, "."+name)
	} else {
		d.names[name] = true
	}
	return nil
}

func (d *Destinations) name(host string) bool {
	if d.names[host] {
		return true
	}
	for _, domain := range d.domains {
		if strings.HasSuffix(host, domain) {
			return true
		}
	}
	return false
}

func (d *Destinations) address(ip netip.Addr) bool {
	for _, prefix := range d.prefixes {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}

// checkHost is about what a client calls the host, before anything is resolved.
func (p *Policy) checkHost(host string) error {
	if p.Deny.name(host) {
		return fmt.Errorf("%w: '%s' is denied", ErrPolicy, host)
	}
	// An address may yet turn out to be one that is allowed.
	if p.Mode == Connectors && !p.Allow.name(host) && len(p.Allow.prefixes) == 0 {
		return fmt.Errorf("%w: '%s' is not a host of a Connector that this namespace may use", ErrPolicy, host)
	}
	return nil
}

// checkUnresolved is about a name that only the parent proxy can resolve: it must be allowed by itself.
func (p *Policy) checkUnresolved(host string) error {
	if p.Mode == Connectors && !p.Allow.name(host) {
		return fmt.Errorf("%w: '%s' is not a host of a Connector that this namespace may use", ErrPolicy, host)
	}
	return nil
}

// checkAddress is about an address that the host's name leads to.
func (p *Policy) checkAddress(host string, ip netip.Addr) error {
	switch {
	case p.Deny.address(ip):
		return fmt.Errorf("%w: the address of '%s' is denied", ErrPolicy, host)
	case p.Allow.name(host) || p.Allow.address(ip):
		return nil
	case p.Mode == Connectors:
		return fmt.Errorf("%w: '%s' is not a host of a Connector that this namespace may use", ErrPolicy, host)
	case p.Mode == Public && ip.IsPrivate():
		return fmt.Errorf("%w: '%s' has a private address", ErrPolicy, host)
	}
	return nil
}
