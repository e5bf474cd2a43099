package config_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

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

// What is reached without the proxy is not reached through it, whatever a list allows.
func TestClusterIsDenied(t *testing.T) {
	t.Parallel()
	c, err := config.Parse([]byte(egressHead + "proxy: {clusterCIDRs: [10.96.0.0/12, 'fd00:10::/64'], noProxy: [10.244.0.0/16, .internal], egress: {allow: [10.0.0.0/8]}}"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"10.96.0.0/12", "fd00:10::/64", "10.244.0.0/16", ".internal"}, c.Proxy.Unproxied()); diff != "" {
		t.Errorf("without the proxy (-want +got):\n%s", diff)
	}
	e, err := config.NewEgress(&c.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	dialled := errors.New("dialled")
	way := egress.Way{
		Check: func(netip.AddrPort) error { return nil },
		Dial:  func(context.Context, string, string) (net.Conn, error) { return nil, dialled },
	}
	for host, want := range map[string]error{
		"10.96.0.1": egress.ErrPolicy, "10.111.255.255": egress.ErrPolicy, "10.244.3.4": egress.ErrPolicy, "fd00:10::1": egress.ErrPolicy,
		"10.112.0.1": dialled, "10.245.0.1": dialled, "192.0.2.1": dialled,
	} {
		if _, err := way.Open(t.Context(), e.Of("any"), egress.Target{Host: host, Port: "443"}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", host, err, want)
		}
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
