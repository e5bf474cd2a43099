package config_test

import (
	"testing"

	"berth.dev/berth/config"
	"berth.dev/berth/egress"
)

const egressHead = "apiVersion: connectors.berth.dev/v1alpha1\nkind: Configuration\n"

func TestEgress(t *testing.T) {
	t.Parallel()
	c, err := config.Parse([]byte(egressHead + `proxy:
  noProxy: [10.96.0.0/12, .internal]
  egress:
    policy: public
    deny: ["*.evil.example"]
    namespaces:
    - {names: [closed, other], policy: connectors, allow: [mirror.example.com]}
    - {names: [other], policy: open}
`))
	if err != nil {
		t.Fatal(err)
	}
	e, err := config.NewEgress(&c.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	for namespace, want := range map[string]egress.Mode{"any": egress.Public, "closed": egress.Connectors, "other": egress.Connectors} {
		if got := e.Of(namespace).Mode; got != want {
			t.Errorf("the policy of '%s' is '%s', want '%s'", namespace, got, want)
		}
	}
	defaults := config.Default()
	if e, err := config.NewEgress(&defaults.Proxy); err != nil || e.Of("any").Mode != egress.Open {
		t.Errorf("by default: %v", err)
	}
}

func TestEgressRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"policy":      "{policy: closed}",
		"allow":       "{allow: ['https://a.example']}",
		"deny":        "{deny: [10.0.0.0/40]}",
		"of nobody":   "{namespaces: [{policy: open}]}",
		"of some":     "{namespaces: [{names: [a]}]}",
		"of unknowns": "{namespaces: [{names: [a], policy: open, more: 1}]}",
	} {
		if _, err := config.Parse([]byte(egressHead + "proxy: {egress: " + text + "}")); err == nil {
			t.Errorf("%s: Parse takes it", name)
		}
	}
}
