package bearer

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"berth.dev/berth/api/v1alpha1"
)

// Trust says which token services a Connector's credential may go to. The zero
// value trusts none. Make it by NewTrust.
type Trust struct {
	address    *url.URL
	extensions []*url.URL
}

// NewTrust returns the trust that a Connector's spec expresses.
func NewTrust(spec *v1alpha1.ConnectorSpec) (Trust, error) {
	address, err := url.Parse(spec.Address)
	if err != nil || address.Hostname() == "" {
		return Trust{}, errors.New("`spec.address` is not a URL")
	}
	t := Trust{address: address}
	for _, extension := range spec.AddressExtensions {
		parsed, err := url.Parse(extension.Value)
		if err != nil || parsed.Hostname() == "" {
			return Trust{}, fmt.Errorf("`value` of `spec.addressExtensions` '%s' is not a URL", extension.Name)
		}
		t.extensions = append(t.extensions, parsed)
	}
	return t, nil
}

// What keeps a credential, or any request, from a realm.
var (
	errNoURL     = errors.New("it is not a URL of a host")
	errNoTLS     = errors.New("it must start with 'https://'")
	errAddress   = errors.New("it is an IP address that is not the registry's own")
	errOtherHost = errors.New("its host is not the registry's")
)

// service returns the URL of the token service at a realm, if it may be asked.
// An anonymous request gives nothing away, so it may go to any host.
func (t Trust) service(realm string, anonymous bool) (*url.URL, error) {
	to, err := url.Parse(realm)
	if err != nil || to.Hostname() == "" || to.User != nil || to.Opaque != "" || t.address == nil {
		return nil, errNoURL
	}
	to.Fragment, to.RawFragment = "", ""
	own := hostname(to) == hostname(t.address)
	switch _, err := netip.ParseAddr(to.Hostname()); {
	case to.Scheme != "https" && (to.Scheme != "http" || t.address.Scheme != "http" || !own):
		return nil, errNoTLS
	case own:
		return to, nil
	case err == nil:
		return nil, errAddress
	case anonymous, sameDomain(to, t.address), t.listed(to):
		return to, nil
	default:
		return nil, errOtherHost
	}
}

// listed reports whether the Connector's owner has named a host, by its scheme and port too.
func (t Trust) listed(to *url.URL) bool {
	for _, extension := range t.extensions {
		if extension.Scheme == to.Scheme && hostname(extension) == hostname(to) && port(extension) == port(to) {
			return true
		}
	}
	return false
}

// sameDomain reports whether two hosts belong to one registered domain, as
// 'auth.example.co.uk' and 'registry.example.co.uk' do. It goes by the suffixes
// under which ICANN lets domains be registered: what is below 'github.io' or
// 'internal' may belong to anybody.
func sameDomain(a, b *url.URL) bool {
	domain, ok := registered(hostname(a))
	other, also := registered(hostname(b))
	return ok && also && domain == other
}

func registered(host string) (domain string, ok bool) {
	if _, icann := publicsuffix.PublicSuffix(host); !icann {
		return "", false
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(host)
	return domain, err == nil
}

func hostname(u *url.URL) string { return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") }

func port(u *url.URL) string {
	if given := u.Port(); given != "" {
		return given
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}
