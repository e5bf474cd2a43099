package access_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

func names(connectors []*access.Connector) []string {
	var names []string
	for _, c := range connectors {
		names = append(names, c.String())
	}
	return names
}

// step puts a Connector, or, without an address, deletes it.
type step struct{ namespace, name, address string }

func TestCatalogue(t *testing.T) {
	t.Parallel()
	const one, two = "https://one.example.com", "https://two.example.com:5000"
	for name, tc := range map[string]struct {
		steps []step
		want  map[string][]string
	}{
		"empty":                   {},
		"sorted by both names":    {steps: []step{{"b", "a", one}, {"a", "b", one}, {"c", "a", one}, {"a", "a", one}}, want: map[string][]string{"one.example.com": {"a/a", "a/b", "b/a", "c/a"}}},
		"replaced":                {steps: []step{{"a", "a", one}, {"b", "b", one}, {"a", "a", one}}, want: map[string][]string{"one.example.com": {"a/a", "b/b"}}},
		"replaced, other address": {steps: []step{{"a", "a", one}, {"b", "b", one}, {"a", "a", two}}, want: map[string][]string{"one.example.com": {"b/b"}, "two.example.com:5000": {"a/a"}}},
		"last one moves":          {steps: []step{{"a", "a", one}, {"a", "a", two}}, want: map[string][]string{"two.example.com:5000": {"a/a"}}},
		"deleted":                 {steps: []step{{"a", "a", one}, {"b", "b", one}, {"c", "c", one}, {"b", "b", ""}}, want: map[string][]string{"one.example.com": {"a/a", "c/c"}}},
		"deleted, last":           {steps: []step{{"a", "a", one}, {"a", "a", ""}}},
		"deleted, unknown":        {steps: []step{{"b", "b", ""}, {"a", "a", one}, {"b", "b", ""}}, want: map[string][]string{"one.example.com": {"a/a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c access.Catalogue
			for _, s := range tc.steps {
				if s.address == "" {
					c.Delete(route.Connector{Namespace: s.namespace, Name: s.name})
				} else {
					c.Put(mustNew(t, connector(s.namespace, s.name, s.address, rule(everywhere()))))
				}
			}
			var all []string
			for _, registry := range []string{"one.example.com", "two.example.com:5000"} {
				if diff := cmp.Diff(tc.want[registry], names(c.ByRegistry(registry))); diff != "" {
					t.Errorf("ByRegistry(%s) (-want +got):\n%s", registry, diff)
				}
				all = append(all, tc.want[registry]...)
			}
			visible := names(c.Visible(access.Caller{Namespace: "shop"}))
			slices.Sort(all)
			slices.Sort(visible)
			if diff := cmp.Diff(all, visible); diff != "" {
				t.Errorf("Visible (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCatalogueGet(t *testing.T) {
	t.Parallel()
	var c access.Catalogue
	name := route.Connector{Namespace: "a", Name: "a"}
	if _, ok := c.Get(name); ok {
		t.Error("Get finds a Connector in an empty catalogue")
	}
	older, newer := mustNew(t, connector("a", "a", "https://one.example.com")), mustNew(t, connector("a", "a", "https://one.example.com"))
	c.Put(older)
	c.Put(newer)
	if got, ok := c.Get(name); !ok || got != newer {
		t.Error("Get does not return what was put last")
	}
	if visible := c.Visible(access.Caller{Namespace: "b"}); len(visible) != 0 {
		t.Errorf("Visible = %v to a namespace that no rule lists", names(visible))
	}
}

// What a reader holds stays as it was, whatever is put and deleted meanwhile.
func TestCatalogueReadersKeepWhatTheyHold(t *testing.T) {
	t.Parallel()
	var c access.Catalogue
	c.Put(mustNew(t, connector("b", "b", "https://one.example.com")))
	c.Put(mustNew(t, connector("c", "c", "https://one.example.com")))
	held := c.ByRegistry("one.example.com")
	c.Delete(route.Connector{Namespace: "b", Name: "b"})
	c.Put(mustNew(t, connector("a", "a", "https://one.example.com")))
	if diff := cmp.Diff([]string{"b/b", "c/c"}, names(held)); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}

func TestCatalogueConcurrently(t *testing.T) {
	t.Parallel()
	var c access.Catalogue
	var writers, readers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 200 {
				connector := mustNew(t, connector(strconv.Itoa(w), fmt.Sprintf("n%d", i%10), fmt.Sprintf("https://r%d.example.com", i%3)))
				c.Put(connector)
				if i%5 == 0 {
					c.Delete(connector.Connector)
				}
			}
		})
	}
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				list := names(c.ByRegistry("r1.example.com"))
				if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
					t.Errorf("ByRegistry = %v, must be sorted without repeats", list)
				}
				c.Visible(access.Caller{Namespace: "0"})
				c.Get(route.Connector{Namespace: "0", Name: "n1"})
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

// BenchmarkPull is the decision on one image among 10,000 Connectors, ten to a registry.
func BenchmarkPull(b *testing.B) {
	var c access.Catalogue
	for i := range 10_000 {
		registry := fmt.Sprintf("https://r%d.example.com", i/10)
		c.Put(mustNew(b, connector("team-"+strconv.Itoa(i), "harbor", registry, patterns(labelled("team", strconv.Itoa(i)), "payments/**", "library/*"))))
	}
	caller := access.Caller{Namespace: "shop", Labels: map[string]string{"team": "5005", "kubernetes.io/metadata.name": "shop"}}
	b.ReportAllocs()
	for b.Loop() {
		granted := 0
		for _, connector := range c.ByRegistry("r500.example.com") {
			if _, err := connector.Match(caller, "payments/api/server", v1alpha1.ActionPull); err == nil {
				granted++
			}
		}
		if granted != 1 {
			b.Fatalf("%d Connectors grant it, want 1", granted)
		}
	}
}
