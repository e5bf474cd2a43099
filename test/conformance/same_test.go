package conformance_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/test/loopback"
)

// registries are the kinds that answer in ways of their own.
func registries() map[string]func(*loopback.Site) *loopback.Registry {
	return map[string]func(*loopback.Site) *loopback.Registry{
		"basic":       (*loopback.Site).Basic,
		"token":       func(s *loopback.Site) *loopback.Registry { return s.Token("") },
		"artifactory": (*loopback.Site).Artifactory,
		"referrers":   (*loopback.Site).Referrers,
		"redirecting": func(s *loopback.Site) *loopback.Registry { r, _ := s.Redirecting(); return r },
	}
}

// compare runs the operations at two doors of one registry.
func compare(t *testing.T, all map[string]func(*session), want, got *door) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			a, b := &session{T: t, door: want.below(name)}, &session{T: t, door: got.below(name)}
			all[name](a)
			all[name](b)
			if diff := cmp.Diff(a.transcript, b.transcript); diff != "" {
				t.Errorf("-%s +%s:\n%s", want.origin+want.api, got.origin+got.api, diff)
			}
		})
	}
}

// TestThrough: through Berth an answer is what it is without.
func TestThrough(t *testing.T) {
	for kind, start := range registries() {
		for _, plain := range []bool{false, true} {
			if plain && kind != "basic" && kind != "token" {
				continue // what stands behind Berth is no matter of its front
			}
			t.Run(fmt.Sprintf("%s, %s", kind, map[bool]string{false: "HTTPS", true: "HTTP"}[plain]), func(t *testing.T) {
				s := loopback.New(t)
				r := start(s)
				b := s.Berth(map[string]loopback.Connector{"registry": {Registry: r}})
				all := operations()
				if kind == "referrers" {
					delete(all, "tags, nonsense") // it ends in a panic of olareg
				}
				compare(t, all, straight(s, r), through(s, b, "registry", plain))
			})
		}
	}
}

// through is the door of a Connector at Berth.
func through(s *loopback.Site, b *loopback.Berth, connector string, plain bool) *door {
	d := &door{
		origin: b.HTTPS, api: loopback.API(connector), root: rootThrough,
		username: "any", password: b.Token(loopback.Namespace, "proxy"), client: s.Client(),
	}
	if plain {
		d.origin = b.HTTP
	}
	return d
}

// below is the same door for one operation, which finds its repositories empty.
func (d *door) below(operation string) *door {
	own := *d
	own.root += "/" + strings.ReplaceAll(strings.ReplaceAll(operation, ",", ""), " ", "-")
	return &own
}
