package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
)

// commands returns a command with all below it.
func commands(c *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		list = append(list, commands(sub)...)
	}
	return list
}

func TestEveryCommandAndFlagHasHelp(t *testing.T) {
	t.Parallel()
	for _, c := range commands(root()) {
		t.Run(c.CommandPath(), func(t *testing.T) {
			if c.Short == "" || c.Long == "" || strings.HasSuffix(c.Short, ".") || !strings.HasSuffix(c.Long, ".") {
				t.Errorf("Short must be a title and Long must be sentences: %q and %q", c.Short, c.Long)
			}
			c.LocalFlags().VisitAll(func(f *pflag.Flag) {
				if f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
					t.Errorf("--%s must say what it is for: %q", f.Name, f.Usage)
				}
				if f.Name != strings.ToLower(f.Name) || strings.Contains(f.Name, "_") {
					t.Errorf("--%s must be of lower-case words with '-' between", f.Name)
				}
			})
		})
	}
}

func TestRootRefuses(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"unknown command":  {"controler"},
		"unknown flag":     {"proxy", "--registry-port=1"},
		"flag of another":  {"node", "--webhook-port=1"},
		"argument":         {"controller", "now"},
		"wrong value":      {"proxy", "--drain=soon"},
		"no tunnels":       {"proxy", "--max-tunnels=0"},
		"no patience":      {"proxy", "--static=.", "--stall-timeout=-1s"},
		"wrong log level":  {"node", "--log-level=LOUD"},
		"no node":          {"node"},
		"no folder":        {"node", "--node-name=one", "--host-root=" + t.TempDir() + "/none"},
		"flag before name": {"--webhook-port=1", "controller"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := root()
			c.PersistentPreRun = nil // loggers are the process's
			c.SetArgs(args)
			var out strings.Builder
			c.SetOut(&out)
			c.SetErr(&out)
			if err := c.ExecuteContext(t.Context()); err == nil {
				t.Error("it runs")
			}
			if out.Len() > 0 {
				t.Errorf("it prints the usage into the log: %s", out.String())
			}
		})
	}
}

func TestProxySubjects(t *testing.T) {
	t.Parallel()
	k := &knowledge{domain: "corp.example"}
	c, err := access.New(&v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "harbor"}, Spec: v1alpha1.ConnectorSpec{Address: "https://example.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	k.catalogue.Put(c)
	k.addresses.Store(new([]netip.Addr{netip.MustParseAddr("10.96.7.7"), netip.MustParseAddr("fd00::7")}))
	type subjects struct{ Names, Addresses []string }
	connector := subjects{Names: []string{"c-harbor.demo.svc.corp.example", "c-harbor.demo.svc"}}
	service := subjects{Names: []string{"berth-proxy.berth-system.svc", "berth-proxy.berth-system.svc.corp.example"}, Addresses: []string{"10.96.7.7", "fd00::7"}}
	for serverName, want := range map[string]subjects{
		"":                                service, // containerd dials an address
		"berth-proxy.berth-system.svc":    service,
		service.Names[1]:                  service,
		connector.Names[0]:                connector,
		connector.Names[1]:                connector,
		"c-harbor.demo":                   {},
		"c-harbor.demo.svc.cluster.local": {},
		"c-harbor.shop.svc.corp.example":  {},
		"c-quay.demo.svc":                 {},
		"harbor.demo.svc":                 {},
		"berth-proxy.demo.svc":            {},
		"kubernetes.default.svc":          {},
		"example.com":                     {},
		"*.demo.svc.corp.example":         {},
		"10.96.7.7":                       {},
		".svc.corp.example":               {},
	} {
		t.Run(serverName, func(t *testing.T) {
			t.Parallel()
			var got subjects
			names, addresses := k.subjects(serverName)
			got.Names = names
			for _, a := range addresses {
				got.Addresses = append(got.Addresses, a.String())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("subjects (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWebhookSubjects(t *testing.T) {
	t.Parallel()
	for serverName, served := range map[string]bool{
		"": true, "berth-webhook.berth-system.svc": true, "berth-proxy.berth-system.svc": false, "berth-webhook.berth-system.svc.evil": false, "example.com": false,
	} {
		names, addresses := webhookSubjects(serverName)
		var want []string
		if served {
			want = []string{"berth-webhook.berth-system.svc"}
		}
		if diff := cmp.Diff(want, names); diff != "" || addresses != nil {
			t.Errorf("'%s': %v (-want +got):\n%s", serverName, addresses, diff)
		}
	}
}
