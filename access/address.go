package access

import (
	"errors"
	"fmt"
	"regexp"

	"berth.dev/berth/api/v1alpha1"
)

// What the CRD says of addresses, by the same expressions and in the same words,
// for Connectors that no API server has admitted.
const (
	hostForm         = `^https?://([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*|[[][0-9a-f:.]+[]])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?`
	addressMessage   = "`address` must be scheme://host[:port][/path] with scheme 'https' or 'http', the host in lower case, and no user, query, fragment or trailing slash, for example 'https://harbor.example.com'"
	extensionMessage = "`value` must be scheme://host[:port] with scheme 'https' or 'http', the host in lower case, and nothing after it, for example 'https://auth.example.com'"
	localMessage     = "may not be loopback or link-local: from the proxy that would be the proxy itself or its node"
	// mostAddress is the most bytes of an address.
	mostAddress = 512
)

var (
	addressForm   = regexp.MustCompile(hostForm + `(/[A-Za-z0-9._~-]+)*$`)
	dotSegment    = regexp.MustCompile(`/[.]{1,2}(/|$)`)
	extensionForm = regexp.MustCompile(hostForm + `$`)
	localForm     = regexp.MustCompile(`^https?://(([-a-z0-9]+[.])*localhost([:/]|$)|(127|0)([.][0-9]+){1,3}([:/]|$)|0([:/]|$)|` +
		`169[.]254([.][0-9]+){2}([:/]|$)|[[](::1?|fe[89ab][0-9a-f]:[0-9a-f:]*|::ffff:(127|0|169[.]254)[.][0-9.]+)[]])`)
)

// ErrLocal is wrapped by the error for an address that is loopback or link-local by its text.
var ErrLocal = errors.New(localMessage)

// checkAddresses refuses addresses that the API server would not have admitted, but for local ones.
func checkAddresses(spec *v1alpha1.ConnectorSpec) error {
	if !matches(addressForm, spec.Address) || dotSegment.MatchString(spec.Address) {
		return fmt.Errorf("`spec.address` '%s': %s", spec.Address, addressMessage)
	}
	for i, extension := range spec.AddressExtensions {
		if !matches(extensionForm, extension.Value) {
			return fmt.Errorf("`spec.addressExtensions[%d].value` '%s': %s", i, extension.Value, extensionMessage)
		}
	}
	return nil
}

// CheckLocal refuses addresses that are loopback or link-local by their text. The
// API server does so when a Connector is written; who reads one from elsewhere
// has to ask. The error wraps ErrLocal.
func CheckLocal(spec *v1alpha1.ConnectorSpec) error {
	if localForm.MatchString(spec.Address) {
		return fmt.Errorf("`address` %w", ErrLocal)
	}
	for i, extension := range spec.AddressExtensions {
		if localForm.MatchString(extension.Value) {
			return fmt.Errorf("`spec.addressExtensions[%d]`: `value` %w", i, ErrLocal)
		}
	}
	return nil
}

func matches(form *regexp.Regexp, address string) bool {
	return len(address) <= mostAddress && form.MatchString(address)
}
