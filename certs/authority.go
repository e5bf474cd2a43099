// Package certs makes the certificate authorities that Berth signs its own
// serving certificates with, keeps them fresh, and mints certificates from them.
//
// An Authority is a root and one intermediate. The intermediate is constrained
// (RFC 5280 §4.2.1.10) to a Scope: the DNS names and addresses that it may ever
// speak for; with no address in its scope, every address is excluded, and with
// no domain, every name. The root's private key is destroyed as soon as it has signed the intermediate, so
// nothing outside the scope can be signed for those who trust the root: the
// constraint must not stand on the root, since Java ignores it there.
//
// Authorities are the generations of one Authority. A new generation is in the
// bundle that clients trust before it signs, and an old one stays in it as long
// as certificates of it live: Step decides by age alone.
//
// Minter hands out leaves, by the name that a client asks for (RFC 6066, SNI).
package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	authorityLife = 365 * 24 * time.Hour
	leafLife      = 7 * 24 * time.Hour
	// skew is how far a client's clock may be behind.
	skew = 5 * time.Minute
)

// Scope is what an Authority may speak for.
type Scope struct {
	// Domains are DNS domains, each with all names below it; with none, certificates for any name are excluded.
	Domains []string
	// Addresses are single IP addresses; with none, certificates for any address are excluded.
	Addresses []netip.Addr
}

// Equal reports whether both scopes have the same domains and addresses, in the same order.
func (s Scope) Equal(o Scope) bool {
	same := func(a, b netip.Addr) bool { return a.Unmap() == b.Unmap() }
	return slices.Equal(s.Domains, o.Domains) && slices.EqualFunc(s.Addresses, o.Addresses, same)
}

// Authority signs leaves within its scope. However it is printed, it shows no key.
type Authority struct {
	root, issuer *x509.Certificate
	// key is a function so that reflection, which reads unexported fields, finds an address and no key.
	key func() *ecdsa.PrivateKey
}

// String names the authority by its subject and start.
func (a Authority) String() string {
	if a.issuer == nil {
		return "no authority"
	}
	return fmt.Sprintf("authority '%s' of %s", a.issuer.Subject.CommonName, a.Created().Format(time.RFC3339))
}

// GoString is String: %#v prints no key either.
func (a Authority) GoString() string { return a.String() }

// Created returns the second in which the authority was made.
func (a Authority) Created() time.Time { return a.issuer.NotBefore.Add(skew) }

// Scope returns what the authority may speak for.
func (a Authority) Scope() Scope {
	s := Scope{Domains: a.issuer.PermittedDNSDomains}
	for _, n := range a.issuer.PermittedIPRanges {
		if ip, ok := netip.AddrFromSlice(n.IP); ok {
			s.Addresses = append(s.Addresses, ip.Unmap())
		}
	}
	return s
}

// longestName is what X.509 lets a name have (RFC 5280, ub-common-name), less the word that tells a root.
const longestName = 64 - len(" root")

// NewAuthority makes a root, lets it sign an intermediate for the scope, and forgets the root's key. A name that is too
// long for a certificate is cut.
func NewAuthority(name string, scope Scope, now time.Time) (Authority, error) {
	name = name[:min(len(name), longestName)]
	if slices.Contains(scope.Domains, "") {
		return Authority{}, fmt.Errorf("make the authority %s: a domain of its scope is empty, which stands for all names", name)
	}
	now = now.UTC().Truncate(time.Second)
	root := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name + " root", Organization: []string{"Berth"}},
		NotBefore: now.Add(-skew), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1, KeyUsage: x509.KeyUsageCertSign,
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Authority{}, fmt.Errorf("make the root of %s: %w", name, err)
	}
	root, err = sign(root, root, rootKey.Public(), rootKey)
	if err != nil {
		return Authority{}, fmt.Errorf("make the root of %s: %w", name, err)
	}
	issuerKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Authority{}, fmt.Errorf("make the intermediate of %s: %w", name, err)
	}
	issuer, err := sign(intermediate(name, scope, root), root, issuerKey.Public(), rootKey)
	if err != nil {
		return Authority{}, fmt.Errorf("make the intermediate of %s: %w", name, err)
	}
	return Authority{root: root, issuer: issuer, key: func() *ecdsa.PrivateKey { return issuerKey }}, nil
}

func intermediate(name string, scope Scope, root *x509.Certificate) *x509.Certificate {
	t := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name, Organization: []string{"Berth"}},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: scope.Domains,
	}
	if len(scope.Domains) == 0 {
		t.ExcludedDNSDomains = []string{""} // the domain of all names
	}
	for _, ip := range scope.Addresses {
		ip = ip.Unmap()
		t.PermittedIPRanges = append(t.PermittedIPRanges, &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())})
	}
	if len(scope.Addresses) == 0 {
		t.ExcludedIPRanges = []*net.IPNet{
			{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
			{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		}
	}
	return t
}

// Leaf makes a serving certificate, with the intermediate beside it, for names and addresses of the scope.
func (a Authority) Leaf(now time.Time, names []string, addresses []netip.Addr) (*tls.Certificate, error) {
	if a.issuer == nil {
		return nil, errors.New("sign a certificate: there is no authority")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	t := &x509.Certificate{
		NotBefore: now.Add(-skew), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, DNSNames: names,
	}
	if t.NotAfter.After(a.issuer.NotAfter) {
		t.NotAfter = a.issuer.NotAfter
	}
	for _, ip := range addresses {
		t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
	}
	leaf, err := sign(t, a.issuer, key.Public(), a.key())
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.issuer.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Covers reports whether a host, a name in lower case or an address, is within the scope.
func (s Scope) Covers(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return slices.ContainsFunc(s.Addresses, func(a netip.Addr) bool { return a.Unmap() == ip.Unmap() })
	}
	return slices.ContainsFunc(s.Domains, func(domain string) bool { return host == domain || strings.HasSuffix(host, "."+domain) })
}
