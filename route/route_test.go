package route_test

import (
	"errors"
	"strings"
	"testing"

	"berth.dev/berth/route"
)

func TestCut(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		path, rest string
		want       route.Connector
		bad        bool
	}{
		"repository follows":   {path: "namespaces/demo/connectors/harbor/test/abc", want: route.Connector{Namespace: "demo", Name: "harbor"}, rest: "test/abc"},
		"nothing follows":      {path: "namespaces/demo/connectors/harbor", want: route.Connector{Namespace: "demo", Name: "harbor"}},
		"namespace of a digit": {path: "namespaces/0/connectors/h/x", want: route.Connector{Namespace: "0", Name: "h"}, rest: "x"},
		"leading slash":        {path: "/namespaces/demo/connectors/harbor", bad: true},
		"trailing slash":       {path: "namespaces/demo/connectors/harbor/", bad: true},
		"no namespace":         {path: "namespaces//connectors/harbor", bad: true},
		"no name":              {path: "namespaces/demo/connectors//x", bad: true},
		"name of a digit":      {path: "namespaces/demo/connectors/0h/x", bad: true},
		"upper case":           {path: "namespaces/Demo/connectors/harbor", bad: true},
		"dot segment":          {path: "namespaces/../connectors/harbor", bad: true},
		"slash in namespace":   {path: "namespaces/a/b/connectors/harbor", bad: true},
		"longest name":         {path: "namespaces/demo/connectors/" + strings.Repeat("a", 61), want: route.Connector{Namespace: "demo", Name: strings.Repeat("a", 61)}},
		"name too long":        {path: "namespaces/demo/connectors/" + strings.Repeat("a", 62), bad: true},
		"namespace too long":   {path: "namespaces/" + strings.Repeat("a", 64) + "/connectors/h", bad: true},
		"empty":                {path: "", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, rest, err := route.Cut(tc.path)
			if tc.bad != (err != nil) || tc.bad && !errors.Is(err, route.ErrNotRoute) {
				t.Fatalf("error %v, wanted one: %t", err, tc.bad)
			}
			if got != tc.want || rest != tc.rest {
				t.Errorf("got %v and '%s', want %v and '%s'", got, rest, tc.want, tc.rest)
			}
		})
	}
}

func TestParseRefusesARest(t *testing.T) {
	t.Parallel()
	if _, err := route.Parse("namespaces/demo/connectors/harbor/test"); !errors.Is(err, route.ErrNotRoute) {
		t.Errorf("got %v, want ErrNotRoute", err)
	}
}

func TestParseHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]route.Connector{
		"c-harbor.demo.svc.cluster.local":      {Namespace: "demo", Name: "harbor"},
		"c-c-x.demo.svc.cluster.local":         {Namespace: "demo", Name: "c-x"},
		"harbor.demo.svc.cluster.local":        {},
		"c-harbor.demo.svc.example.com":        {},
		"c-harbor.a.b.svc.cluster.local":       {},
		"c-harbor.svc.cluster.local":           {},
		"c-.demo.svc.cluster.local":            {},
		"x.c-harbor.demo.svc.cluster.local":    {},
		"c-harbor.demo.svc.cluster.local.":     {},
		"c-harbor.demo.svc.cluster.local:8443": {},
	} {
		got, err := route.ParseHost(host, "cluster.local")
		if got != want || (err == nil) != (want != route.Connector{}) {
			t.Errorf("%s: got %v and %v, want %v", host, got, err, want)
		}
	}
}

func TestParseName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]route.Connector{
		"harbor":           {Namespace: "own", Name: "harbor"},
		"demo/harbor":      {Namespace: "demo", Name: "harbor"},
		"/harbor":          {},
		"demo/":            {},
		"a/b/c":            {},
		" demo/harbor":     {}, //nolint:gocritic // the space is what is wrong with it
		"demo/harbor,more": {},
	} {
		got, err := route.ParseName(in, "own")
		if got != want || (err == nil) != (want != route.Connector{}) {
			t.Errorf("'%s': got %v and %v, want %v", in, got, err, want)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add("namespaces/demo/connectors/harbor/test/abc")
	f.Add("namespaces/../connectors/harbor")
	f.Fuzz(func(t *testing.T, path string) {
		c, rest, err := route.Cut(path)
		if err != nil {
			return
		}
		back := c.Format()
		if rest != "" {
			back += "/" + rest
		}
		if back != path {
			t.Errorf("'%s' was read as %v and '%s', which is written '%s'", path, c, rest, back)
		}
		if h, err := route.ParseHost(c.Host("cluster.local"), "cluster.local"); err != nil || h != c {
			t.Errorf("host of %v was read as %v: %v", c, h, err)
		}
	})
}
