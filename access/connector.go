package access

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

// Connector is a Connector as its users' side needs it: compiled, and without
// status, because no decision depends on momentary health.
type Connector struct {
	route.Connector
	Rules

	// UID tells it from a deleted namesake.
	UID types.UID
	// Address is the registry's, parsed. Its path has no trailing slash. Where
	// it is one of Docker Hub's, it is the one that serves Docker Hub's images.
	Address *url.URL
	// Extension is the name of the `addressExtensions` entry whose value Address is, in a Connector that
	// Extensions returned, and else empty.
	Extension string
	// Registry is the host of Address as image references spell it: with a port
	// only where it is not the scheme's default.
	Registry string
	// Spec is the Connector's; it may not be changed.
	Spec *v1alpha1.ConnectorSpec

	extensions []*Connector
}

// New compiles a Connector, or says why the API server would not have admitted it. It keeps a reference to its spec.
func New(c *v1alpha1.Connector) (*Connector, error) {
	name := route.Connector{Namespace: c.Namespace, Name: c.Name}
	if err := checkAddresses(&c.Spec); err != nil {
		return nil, fmt.Errorf("Connector '%s': %w", name, err)
	}
	address, err := url.Parse(c.Spec.Address)
	if err != nil || address.Hostname() == "" {
		return nil, fmt.Errorf("Connector '%s': `spec.address` '%s' is not a URL", name, c.Spec.Address)
	}
	rules, err := Compile(c.Namespace, c.Spec.Access)
	if err != nil {
		return nil, fmt.Errorf("Connector '%s': %w", name, err)
	}
	registry := RegistryOf(registry(address))
	if registry == dockerHub && address.Scheme == "https" {
		address.Host = dockerHubServer
	}
	compiled := &Connector{
		Connector: name, Rules: rules, UID: c.UID,
		Address: address, Registry: registry, Spec: &c.Spec,
	}
	compiled.extensions, err = extend(compiled)
	if err != nil {
		return nil, fmt.Errorf("Connector '%s': %w", name, err)
	}
	return compiled, nil
}

// extend returns the Connector once for each of its further hosts.
func extend(c *Connector) ([]*Connector, error) {
	var extended []*Connector
	for i, extension := range c.Spec.AddressExtensions {
		address, err := url.Parse(extension.Value)
		if err != nil || address.Hostname() == "" {
			return nil, fmt.Errorf("`spec.addressExtensions[%d].value` '%s' is not a URL", i, extension.Value)
		}
		there := *c
		there.Address, there.Registry, there.Extension = address, registry(address), extension.Name
		extended = append(extended, &there)
	}
	return extended, nil
}

// Extensions returns the Connector as it is on each of its further hosts: the
// same name, rules and credential, at another Address. The slice may not be changed.
func (c *Connector) Extensions() []*Connector { return c.extensions }

// Origin is where the Connector's requests go, with the port always: 'https://harbor.example.com:443'.
func (c *Connector) Origin() string {
	port := c.Address.Port()
	if port == "" {
		port = defaultPort(c.Address.Scheme)
	}
	return Origin(c.Address.Scheme, c.Address.Hostname(), port)
}

// Origin spells a scheme, a host in lower case and without brackets, and a port as Connector.Origin does. Docker Hub's
// hosts are one: some clients dial the one and some the other.
func Origin(scheme, host, port string) string {
	if host == dockerHubIndex {
		host = dockerHubServer
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// Hosts returns by which names and at which addresses clients reach the
// Connector over TLS, at its address and its further hosts, each once.
func (c *Connector) Hosts() (names []string, addresses []netip.Addr) {
	for _, one := range append([]*Connector{c}, c.extensions...) {
		host := one.Address.Hostname()
		ip, err := netip.ParseAddr(host)
		switch {
		case one.Address.Scheme != "https":
		case err == nil:
			addresses = append(addresses, ip.Unmap())
		case host == dockerHubServer:
			names = append(names, host, dockerHubIndex)
		default:
			names = append(names, host)
		}
	}
	return unique(names), unique(addresses)
}

// unique leaves the first of each.
func unique[T comparable](all []T) []T {
	var kept []T
	for _, one := range all {
		if !slices.Contains(kept, one) {
			kept = append(kept, one)
		}
	}
	return kept
}

// Docker Hub's registry has one name in images and another on the network.
const (
	dockerHub       = "docker.io"
	dockerHubServer = "registry-1.docker.io"
	dockerHubIndex  = "index.docker.io"
)

// RegistryOf returns the name that images give to the registry of a host: the
// host itself, but 'docker.io' for each of Docker Hub's.
func RegistryOf(host string) string {
	if host == dockerHubServer || host == dockerHubIndex {
		return dockerHub
	}
	return host
}

func registry(address *url.URL) string {
	if port := address.Port(); port == "" || port == defaultPort(address.Scheme) {
		return trimPort(address)
	}
	return address.Host
}

func trimPort(address *url.URL) string {
	if address.Port() == "" {
		return address.Host
	}
	return address.Host[:len(address.Host)-len(address.Port())-1]
}

func defaultPort(scheme string) string {
	if scheme == "http" {
		return "80"
	}
	return "443"
}
