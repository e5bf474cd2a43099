package configuration_test

import (
	"net/http"
	"testing"
)

// BenchmarkFiles is a volume that is new, and one of which nothing changed, which is asked for every minute.
func BenchmarkFiles(b *testing.B) {
	w := newWorld(b)
	attributes := []string{"connectors", "demo/harbor", "configurations", "registry-config,buildkitd"}
	first := w.get(b, "", attributes...)
	for name, tc := range map[string]struct {
		tag    string
		status int
	}{"new": {"", http.StatusOK}, "unchanged": {first.header.Get("Etag"), http.StatusNotModified}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := w.get(b, tc.tag, attributes...); got.status != tc.status {
					b.Fatalf("status %d: %s", got.status, got.message)
				}
			}
		})
	}
}
