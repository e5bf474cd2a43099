package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/config"
)

const head = "apiVersion: connectors.berth.dev/v1alpha1\nkind: Configuration\n"

func TestParse(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		file   string
		change func(*v1alpha1.Configuration)
		err    string
	}{
		"head alone":          {file: head, change: func(*v1alpha1.Configuration) {}},
		"a scalar":            {file: head + "clusterDomain: k8s.example.com", change: func(c *v1alpha1.Configuration) { c.ClusterDomain = "k8s.example.com" }},
		"a null is not given": {file: head + "clusterDomain: null", change: func(*v1alpha1.Configuration) {}},
		"a list replaces":     {file: head + "trustedNamespaces: []", change: func(c *v1alpha1.Configuration) { c.TrustedNamespaces = []string{} }},
		"nothing shows through": {file: head + "pipelines: [{name: mine, labels: {mine: x}}]", change: func(c *v1alpha1.Configuration) {
			c.Pipelines = []v1alpha1.Pipeline{{Name: "mine", Labels: map[string]string{"mine": "x"}}}
		}},
		"a part of an object":   {file: head + "files: {enabled: false}", change: func(c *v1alpha1.Configuration) { c.Files.Enabled = false }},
		"nothing is given":      {file: head + "proxy: {address: ''}", change: func(c *v1alpha1.Configuration) { c.Proxy.Address = "" }},
		"empty":                 {file: "", err: "must begin with"},
		"another kind":          {file: "apiVersion: v1\nkind: Pod", err: "must begin with"},
		"unknown field":         {file: head + "clusterDomian: x", err: "clusterDomian"},
		"field twice":           {file: head + "clusterDomain: a\nclusterDomain: b", err: "clusterDomain"},
		"wrong type":            {file: head + "trustedNamespaces: yes", err: "trustedNamespaces"},
		"no YAML":               {file: head + "\t{", err: "read the configuration"},
		"bad domain":            {file: head + "clusterDomain: -x", err: "`clusterDomain`: '-x'"},
		"bad namespace":         {file: head + "trustedNamespaces: [ok, Not_ok]", err: "`trustedNamespaces[1]`"},
		"pipeline of all":       {file: head + "pipelines: [{name: all}]", err: "`pipelines[0].labels`"},
		"nodes of all":          {file: head + "leftAlone: [{name: all}]", err: "`leftAlone[0]`"},
		"owner without a kind":  {file: head + "safeOwners: [{group: apps}]", err: "`safeOwners[0].kind`"},
		"proxy without a port":  {file: head + "proxy: {address: proxy}", err: "`proxy.address`"},
		"no-proxy with a comma": {file: head + "proxy: {noProxy: ['a,b']}", err: "`proxy.noProxy[0]`"},
		"parent with a user":    {file: head + "proxy: {parent: {url: 'http://a:b@proxy:3128'}}", err: "`proxy.parent.url`"},
		"parent without a port": {file: head + "proxy: {parent: {url: 'http://proxy'}}", err: "`proxy.parent.url`"},
		"parent, no-proxy":      {file: head + "proxy: {parent: {noProxy: ['a,b']}}", err: "`proxy.parent.noProxy[0]`"},
		"cluster CIDR, no CIDR": {file: head + "proxy: {clusterCIDRs: [10.96.0.0/12, 10.0.0.1]}", err: "`proxy.clusterCIDRs[1]`"},
		"cluster CIDR too long": {file: head + "proxy: {clusterCIDRs: [10.96.0.1/12]}", err: "`proxy.clusterCIDRs[0]`"},
		"all is the cluster":    {file: head + "proxy: {clusterCIDRs: ['::/0']}", err: "`proxy.clusterCIDRs[0]`"},
		"mount path with dots":  {file: head + "files: {mountPath: /a/../b}", err: "`files.mountPath`"},
		"mount path to quote":   {file: head + "files: {mountPath: '/a b'}", err: "`files.mountPath`"},
		"variable of no files":  {file: head + "files: {variables: [{name: A, value: b}]}", err: "`files.variables[0].configuration`"},
		"variable with a space": {file: head + "files: {variables: [{configuration: a, name: 'A B'}]}", err: "`files.variables[0].name`"},
		"too long":              {file: head + "#" + strings.Repeat("x", config.MaxSize), err: "may have"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := config.Parse([]byte(tc.file))
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, must speak of %s", err, tc.err)
				}
				return
			}
			want := config.Default()
			tc.change(&want)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestPrintIsParsed(t *testing.T) {
	t.Parallel()
	text, err := config.Print(config.Default())
	if err != nil {
		t.Fatal(err)
	}
	got, err := config.Parse(text)
	if diff := cmp.Diff(config.Default(), got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head + "trustedNamespaces: []"))
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := config.Parse(file)
		if err != nil {
			return
		}
		text, err := config.Print(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.Parse(text)
		if diff := cmp.Diff(c, again); err != nil || diff != "" {
			t.Errorf("printed and read again: %v\n%s", err, diff)
		}
	})
}
