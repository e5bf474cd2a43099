package csi_test

import (
	"fmt"
	"testing"

	"berth.dev/berth/csi"
	"berth.dev/berth/route"
)

func many(n int) []route.Connector {
	connectors := make([]route.Connector, n)
	for i := range connectors {
		connectors[i] = route.Connector{Namespace: fmt.Sprintf("team-%d", i/10), Name: fmt.Sprintf("harbor-%d", i)}
	}
	return connectors
}

// BenchmarkSync is a node of a cluster with 10,000 Connectors: at its first start, after one more Connector came, after
// the certificate authority changed, and at a restart. With -short there are 100.
func BenchmarkSync(b *testing.B) {
	connectors := 10_000
	if testing.Short() {
		connectors = 100
	}
	all := many(connectors)
	start := func(b *testing.B, dir string) *csi.HostsDir {
		b.Helper()
		d, err := csi.NewHostsDir(machine(b), dir, clusterDomain)
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
	sync := func(b *testing.B, d *csi.HostsDir, list []route.Connector, ca string, changes int) {
		b.Helper()
		if wrote, removed, err := d.Sync(list, someProxy(ca)); err != nil || wrote+removed != changes {
			b.Fatalf("wrote %d and removed %d, %v, want %d changes", wrote, removed, err, changes)
		}
	}
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sync(b, start(b, b.TempDir()), all, "one", connectors)
		}
	})
	b.Run("others", func(b *testing.B) {
		dir := b.TempDir()
		d := start(b, dir)
		sync(b, d, all, "one", connectors)
		b.Run("one more and one less", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sync(b, d, all[1:], "one", 1)
				sync(b, d, all, "one", 1)
			}
		})
		b.Run("nothing changed", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sync(b, d, all, "one", 0)
			}
		})
		b.Run("restart", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sync(b, start(b, dir), all, "one", 0)
			}
		})
	})
}
