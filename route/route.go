// Package route is the grammar of connector paths: how a Connector is named in
// an image reference, in the path of a request, and in DNS.
//
//	route      = "namespaces/" namespace "/connectors/" name
//	namespace  = DNS-1123 label, at most 63 characters
//	name       = DNS-1035 label, at most 61 characters
//	host       = "c-" name "." namespace ".svc." cluster-domain
//	image      = host "/" route "/" repository [":" tag] ["@" digest]
//
// So the Connector 'harbor' of namespace 'demo' serves the repository
// 'test/abc' of its registry as
//
//	c-harbor.demo.svc.cluster.local/namespaces/demo/connectors/harbor/test/abc
//
// What Format writes Parse reads, and Parse reads nothing else: one Connector
// has one spelling. The package imports the standard library alone.
package route

import (
	"errors"
	"fmt"
	"strings"
)

// MaxNameLength is the most characters that a Connector's name has: its Service
// is named 'c-' and the name, and a Service's name is a DNS label of 63.
const MaxNameLength = 61

const (
	maxLabelLength    = 63 // RFC 1035 §2.3.4
	namespacesSegment = "namespaces/"
	connectorsSegment = "/connectors/"
	servicePrefix     = "c-"
	serviceInfix      = ".svc."
)

// ErrNotRoute is what Parse, Cut and ParseHost return for text that names no Connector.
var ErrNotRoute = errors.New("not a connector route")

// Connector names a Connector. The zero value names none.
type Connector struct {
	Namespace, Name string
}

// String is 'NAMESPACE/NAME', as annotations and messages spell it.
func (c Connector) String() string { return c.Namespace + "/" + c.Name }

// Format is the Connector's route, without a leading or trailing slash.
func (c Connector) Format() string {
	return namespacesSegment + c.Namespace + connectorsSegment + c.Name
}

// Host is the DNS name of the Connector's Service under the given cluster domain, such as 'cluster.local'.
func (c Connector) Host(clusterDomain string) string {
	return servicePrefix + c.Name + "." + c.Namespace + serviceInfix + clusterDomain
}

// HostGlob matches, in a pull secret, the hosts of all Connectors of a namespace.
func HostGlob(namespace, clusterDomain string) string {
	return servicePrefix + "*." + namespace + serviceInfix + clusterDomain
}

// Parse reads a route that stands alone.
func Parse(path string) (Connector, error) {
	c, rest, err := Cut(path)
	if err == nil && rest != "" {
		return Connector{}, fmt.Errorf("%w: '%s' goes on after the Connector's name", ErrNotRoute, path)
	}
	return c, err
}

// Cut reads the route at the start of a path and returns the rest without the
// slash between them. The path has no leading slash.
func Cut(path string) (c Connector, rest string, err error) {
	after, ok := strings.CutPrefix(path, namespacesSegment)
	if !ok {
		return Connector{}, "", fmt.Errorf("%w: '%s' does not start with '%s'", ErrNotRoute, path, namespacesSegment)
	}
	namespace, after, ok := strings.Cut(after, connectorsSegment)
	if !ok || !isLabel(namespace, maxLabelLength) {
		return Connector{}, "", fmt.Errorf("%w: '%s' names no namespace, as in 'namespaces/NAMESPACE/connectors/NAME'", ErrNotRoute, path)
	}
	name, rest, slash := strings.Cut(after, "/")
	if !isName(name) || slash && rest == "" {
		return Connector{}, "", fmt.Errorf("%w: '%s' names no Connector, as in 'namespaces/NAMESPACE/connectors/NAME'", ErrNotRoute, path)
	}
	return Connector{Namespace: namespace, Name: name}, rest, nil
}

// ParseHost reads the DNS name that Host writes.
func ParseHost(host, clusterDomain string) (Connector, error) {
	labels, ok := strings.CutSuffix(host, serviceInfix+clusterDomain)
	service, namespace, dot := strings.Cut(labels, ".")
	name, prefix := strings.CutPrefix(service, servicePrefix)
	if !ok || !dot || !prefix || !isName(name) || !isLabel(namespace, maxLabelLength) {
		return Connector{}, fmt.Errorf("%w: '%s' is not a host 'c-NAME.NAMESPACE.svc.%s'", ErrNotRoute, host, clusterDomain)
	}
	return Connector{Namespace: namespace, Name: name}, nil
}

// ParseName reads 'NAMESPACE/NAME', or 'NAME' for a Connector of the default namespace.
func ParseName(s, defaultNamespace string) (Connector, error) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok {
		namespace, name = defaultNamespace, s
	}
	if !isLabel(namespace, maxLabelLength) || !isName(name) {
		return Connector{}, fmt.Errorf("%w: '%s' must be 'NAMESPACE/NAME', or 'NAME' for a Connector of the same namespace", ErrNotRoute, s)
	}
	return Connector{Namespace: namespace, Name: name}, nil
}

func isName(s string) bool {
	return isLabel(s, MaxNameLength) && s[0] >= 'a'
}

// isLabel reports whether s is a DNS-1123 label of at most so many characters.
func isLabel(s string, most int) bool {
	if s == "" || len(s) > most || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
