package rewrite

import (
	"slices"
	"strings"

	"github.com/distribution/reference"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

// outcome is what becomes of an image.
type outcome struct {
	reason    Reason // ReasonRewritten, or why not
	detail    string
	image     string
	connector route.Connector
}

// image decides about one image. The error is a *Refusal.
func (c *chooser) image(written string) (outcome, error) {
	named, err := reference.ParseNormalizedNamed(written)
	if err != nil {
		return outcome{reason: ReasonUnparseable, detail: err.Error()}, nil //nolint:nilerr // what is no reference is left alone, not refused
	}
	domain, path := access.RegistryOf(strings.ToLower(reference.Domain(named))), reference.Path(named)
	if host, ok := c.connectorHost(domain, path); ok {
		return c.routed(host, named)
	}
	if c.keep {
		return outcome{reason: ReasonImagesKept}, nil
	}
	chosen, reason := c.choose(domain, path)
	if reason != ReasonRewritten {
		return outcome{reason: reason}, nil
	}
	// Every part was parsed; only together they may be too long.
	repository := chosen.Format() + "/" + chosen.repository
	if len(repository) > reference.RepositoryNameTotalLengthMax {
		return outcome{reason: ReasonNameTooLong, detail: reference.ErrNameTooLong.Error()}, nil
	}
	return outcome{
		reason: ReasonRewritten, connector: chosen.Connector.Connector,
		image: chosen.Host(c.policy.ClusterDomain) + "/" + repository + suffix(named),
	}, nil
}

// connectorHost returns the Connector whose host the domain is, in any spelling
// that its certificate bears: with a port that says nothing, and as
// 'c-NAME.NAMESPACE.svc' or 'c-NAME.NAMESPACE'. The short ones might be some
// other registry's, and so count only before the path of that Connector.
func (c *chooser) connectorHost(domain, path string) (route.Connector, bool) {
	if !strings.HasPrefix(domain, v1alpha1.ServicePrefix) { // else no error need be made to be thrown away
		return route.Connector{}, false
	}
	domain = strings.TrimSuffix(domain, ":443")
	if host, err := route.ParseHost(domain, c.policy.ClusterDomain); err == nil {
		return host, true
	}
	name, _, err := route.Cut(path)
	short := v1alpha1.ServicePrefix + name.Name + "." + name.Namespace
	return name, err == nil && (domain == short || domain == short+".svc")
}

// routed checks an image that is already in connector form. One whose host is
// not spelt as nodes know it, which could not be pulled, is written so.
func (c *chooser) routed(host route.Connector, named reference.Named) (outcome, error) {
	path := reference.Path(named)
	name, repository, err := route.Cut(path)
	if err != nil || name != host || repository == "" {
		return outcome{}, &Refusal{Reason: ReasonConnectorInvalid, Detail: "an image of Connector '" + host.String() +
			"' must be written '" + host.Host(c.policy.ClusterDomain) + "/" + host.Format() + "/REPOSITORY'"}
	}
	connector, err := c.usable(name)
	if err != nil {
		return outcome{}, err
	}
	if err := connector.Check(c.namespace.caller(), repository, v1alpha1.ActionPull); err != nil {
		return outcome{}, &Refusal{Reason: ReasonConnectorForbidden, Detail: "Connector '" + name.String() +
			"' does not grant namespace '" + c.namespace.Name + "' to pull '" + repository + "'; ask its owner to list it in the Connector's `spec.access`"}
	}
	written := host.Host(c.policy.ClusterDomain)
	switch {
	case reference.Domain(named) == written:
		return outcome{reason: ReasonAlreadyRouted}, nil
	case c.keep:
		return outcome{reason: ReasonImagesKept}, nil
	default:
		return outcome{reason: ReasonRewritten, connector: name, image: written + "/" + path + suffix(named)}, nil
	}
}

// wouldPull reports whether a field's image goes, or would go, through a Connector.
func (c *chooser) wouldPull(field imageField) bool {
	if field.never {
		return false
	}
	result, err := c.image(*field.image)
	return err != nil || result.reason == ReasonRewritten || result.reason == ReasonAlreadyRouted
}

// suffix is the tag and digest as written.
func suffix(named reference.Named) string {
	var s string
	if tagged, ok := named.(reference.Tagged); ok {
		s = ":" + tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		s += "@" + digested.Digest().String()
	}
	return s
}

// spellings are the ways in which a Connector's registry may be spelt so that
// an image's domain means it: a port that is the default of a scheme says nothing.
func spellings(domain string) []string {
	for _, port := range []string{":443", ":80"} {
		if host, ok := strings.CutSuffix(domain, port); ok && !strings.HasSuffix(host, ":") {
			return []string{domain, host}
		}
	}
	return []string{domain}
}

// serves reports whether the image's domain means the Connector's registry:
// 'host:443' means 'https://host', and not 'http://host'.
func serves(connector *access.Connector, domain string) bool {
	if connector.Registry == domain {
		return true
	}
	port := map[string]string{"https": ":443", "http": ":80"}[connector.Address.Scheme]
	return slices.Contains(spellings(domain), connector.Registry) && strings.HasSuffix(domain, port)
}
