package config

import (
	"fmt"
	"net/netip"
	"slices"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/egress"
)

// Egress are the policies of a configuration, compiled.
type Egress struct {
	general     *egress.Policy
	byNamespace map[string]*egress.Policy
}

// NewEgress compiles the policies of a configuration that Parse or Default returned.
func NewEgress(c *v1alpha1.ProxyConfiguration) (*Egress, error) {
	var inside []string
	for _, entry := range c.Unproxied() {
		if _, err := netip.ParsePrefix(entry); err == nil {
			inside = append(inside, entry) // what is reached without the proxy is not reached through it
		}
	}
	general, err := policy(&c.Egress.EgressPolicy, inside)
	if err != nil {
		return nil, err
	}
	e := &Egress{general: general, byNamespace: map[string]*egress.Policy{}}
	for i := range c.Egress.Namespaces {
		own, err := policy(&c.Egress.Namespaces[i].EgressPolicy, inside)
		if err != nil {
			return nil, err
		}
		for _, name := range c.Egress.Namespaces[i].Names {
			if _, earlier := e.byNamespace[name]; !earlier {
				e.byNamespace[name] = own
			}
		}
	}
	return e, nil
}

// Parent returns the parent proxy of a configuration, or nil. The cluster itself is reached without it.
func Parent(c *v1alpha1.ProxyConfiguration, clusterDomain string, credential func() (string, error)) (*egress.Parent, error) {
	if c.Parent.URL == "" {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	return egress.NewParent(c.Parent.URL, slices.Concat(c.Parent.NoProxy, c.Unproxied(), []string{".svc", "." + clusterDomain}), credential)
}

// Of returns the policy of a namespace.
func (e *Egress) Of(namespace string) *egress.Policy {
	if own, ok := e.byNamespace[namespace]; ok {
		return own
	}
	return e.general
}

func policy(c *v1alpha1.EgressPolicy, inside []string) (*egress.Policy, error) {
	p := &egress.Policy{Mode: egress.Mode(c.Policy)}
	var err error
	if p.Allow, err = egress.ParseDestinations(c.Allow); err != nil {
		return nil, err
	}
	p.Deny, err = egress.ParseDestinations(slices.Concat(c.Deny, inside))
	return p, err
}

func (p *problems) egress(c *v1alpha1.EgressConfiguration) {
	p.policy("proxy.egress", &c.EgressPolicy)
	for i := range c.Namespaces {
		field := fmt.Sprintf("proxy.egress.namespaces[%d]", i)
		p.policy(field, &c.Namespaces[i].EgressPolicy)
		if len(c.Namespaces[i].Names) == 0 {
			p.addf(field+".names", "must have an entry: without one the policy is nobody's")
		}
	}
}

func (p *problems) policy(field string, c *v1alpha1.EgressPolicy) {
	switch egress.Mode(c.Policy) {
	case egress.Open, egress.Public, egress.Connectors:
	default:
		p.addf(field+".policy", "'%s' must be 'open', 'public' or 'connectors'", c.Policy)
	}
	for name, list := range map[string][]string{"allow": c.Allow, "deny": c.Deny} {
		if _, err := egress.ParseDestinations(list); err != nil {
			p.addf(field+"."+name, "%v", err)
		}
	}
}
