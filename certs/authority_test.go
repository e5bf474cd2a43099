package certs_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/dump"

	"berth.dev/berth/certs"
)

// start is when the clocks of these tests start.
func start() time.Time { return time.Date(2026, 1, 31, 23, 59, 59, 0, time.UTC) }

func scope(domain string, addresses ...string) certs.Scope {
	s := certs.Scope{Addresses: ips(addresses...)}
	if domain != "" {
		s.Domains = []string{domain}
	}
	return s
}

func ips(addresses ...string) []netip.Addr {
	var ips []netip.Addr
	for _, a := range addresses {
		ips = append(ips, netip.MustParseAddr(a))
	}
	return ips
}

func newAuthorities(t testing.TB, s certs.Scope) certs.Authorities {
	t.Helper()
	as, _, _, err := certs.Authorities{}.Step("berth test", s, start())
	if err != nil {
		t.Fatal(err)
	}
	return as
}

func leaf(t testing.TB, as certs.Authorities, now time.Time, names []string, addresses ...string) *tls.Certificate {
	t.Helper()
	authority, ok := as.Signing(now)
	if !ok {
		t.Fatal("there is no authority")
	}
	leaf, err := authority.Leaf(now, names, ips(addresses...))
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// verify is what a client does with a certificate, given the bundle that it trusts.
func verify(t testing.TB, bundle []byte, c *tls.Certificate, name string, now time.Time) error {
	t.Helper()
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: name, CurrentTime: now}
	if !options.Roots.AppendCertsFromPEM(bundle) {
		t.Fatal("the bundle holds no certificate")
	}
	for _, der := range c.Certificate[1:] {
		intermediate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		options.Intermediates.AddCert(intermediate)
	}
	_, err := c.Leaf.Verify(options)
	return err
}

func TestScope(t *testing.T) {
	t.Parallel()
	const domain = "harbor.example.com"
	for name, tc := range map[string]struct {
		scope   certs.Scope
		subject string // a name or an address
		outside bool
	}{
		"domain":                 {scope: scope(domain), subject: domain},
		"below the domain":       {scope: scope(domain), subject: "notary." + domain},
		"above the domain":       {scope: scope(domain), subject: "example.com", outside: true},
		"beside the domain":      {scope: scope(domain), subject: "evil-" + domain, outside: true},
		"another domain":         {scope: scope(domain), subject: "www.example.org", outside: true},
		"IPv4, none in scope":    {scope: scope(domain), subject: "10.0.0.1", outside: true},
		"IPv6, none in scope":    {scope: scope(domain), subject: "2001:db8::1", outside: true},
		"IPv4":                   {scope: scope(domain, "10.0.0.1"), subject: "10.0.0.1"},
		"IPv4, its neighbour":    {scope: scope(domain, "10.0.0.1"), subject: "10.0.0.2", outside: true},
		"IPv4, IPv6 in scope":    {scope: scope(domain, "2001:db8::1"), subject: "10.0.0.1", outside: true},
		"IPv6":                   {scope: scope(domain, "10.0.0.1", "2001:db8::1"), subject: "2001:db8::1"},
		"IPv6, its neighbour":    {scope: scope(domain, "2001:db8::1"), subject: "2001:db8::2", outside: true},
		"IPv4-mapped":            {scope: scope(domain, "::ffff:10.0.0.1"), subject: "10.0.0.1"},
		"name beside addresses":  {scope: scope(domain, "10.0.0.1"), subject: domain},
		"name, addresses alone":  {scope: scope("", "10.0.0.1"), subject: domain, outside: true},
		"address, alone":         {scope: scope("", "10.0.0.1"), subject: "10.0.0.1"},
		"name, empty scope":      {scope: scope(""), subject: domain, outside: true},
		"address, empty scope":   {scope: scope(""), subject: "10.0.0.1", outside: true},
		"wildcard in the domain": {scope: scope(domain), subject: "*." + domain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			as := newAuthorities(t, tc.scope)
			var c *tls.Certificate
			if _, err := netip.ParseAddr(tc.subject); err == nil {
				c = leaf(t, as, start(), nil, tc.subject)
			} else {
				c = leaf(t, as, start(), []string{tc.subject})
			}
			err := verify(t, as.Bundle(), c, strings.ReplaceAll(tc.subject, "*", "x"), start())
			var invalid x509.CertificateInvalidError
			switch refused := errors.As(err, &invalid) && invalid.Reason == x509.CANotAuthorizedForThisName; {
			case tc.outside && !refused:
				t.Errorf("Verify = %v, want CANotAuthorizedForThisName", err)
			case !tc.outside && err != nil:
				t.Error(err)
			}
			if got := as[0].Scope(); !got.Equal(tc.scope) {
				t.Errorf("Scope = %v, want %v", got, tc.scope)
			}
		})
	}
}

// An empty domain would be in the constraint what it is in DNS: the root, and all names below it.
func TestNewAuthorityRefusesTheEmptyDomain(t *testing.T) {
	t.Parallel()
	if _, err := certs.NewAuthority("berth test", certs.Scope{Domains: []string{"example.com", ""}}, start()); err == nil {
		t.Error("NewAuthority accepts it")
	}
}

func TestZeroAuthoritySignsNothing(t *testing.T) {
	t.Parallel()
	if _, err := (certs.Authority{}).Leaf(start(), []string{"example.com"}, nil); err == nil {
		t.Error("Leaf returns one")
	}
}

// privateKeys are the private keys in the data of a Secret.
func privateKeys(t testing.TB, data map[string][]byte) []*ecdsa.PrivateKey {
	t.Helper()
	var keys []*ecdsa.PrivateKey
	for file, content := range data {
		for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" {
				continue
			}
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			key, ok := parsed.(*ecdsa.PrivateKey)
			if !ok {
				t.Fatalf("%s holds a %T", file, parsed)
			}
			keys = append(keys, key)
		}
	}
	return keys
}

func TestAuthoritiesShowNoKey(t *testing.T) {
	t.Parallel()
	as := newAuthorities(t, scope("example.com"))
	data, err := as.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	key := privateKeys(t, data)[0]
	raw, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{
		hex.EncodeToString(raw[:8]), fmt.Sprintf("%X", raw[:8]), fmt.Sprintf("% x", raw[:8]), strings.Trim(fmt.Sprintf("%d", raw[:8]), "[]"),
		base64.StdEncoding.EncodeToString(raw)[:10], key.D.String()[:16], fmt.Sprint(key.D.Bits()[0]), //nolint:staticcheck // the field that must not be seen
	}
	for name, value := range map[string]any{
		"value": as[0], "pointer": &as[0], "authorities": as, "unexported": struct{ as certs.Authorities }{as}, "map": map[string]any{"a": as[0]},
	} {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		printed := []string{string(encoded), dump.Pretty(value)}
		for verb := range strings.FieldsSeq("%v %+v %#v %s %q %x %X %d") {
			printed = append(printed, fmt.Sprintf(verb, value))
		}
		for _, text := range printed {
			for _, s := range shown {
				if strings.Contains(text, s) {
					t.Errorf("%s shows the key", name)
				}
			}
		}
	}
}
