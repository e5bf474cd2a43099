package main

import (
	"context"
	"fmt"
	"runtime"

	"berth.dev/berth/api/v1alpha1"
)

// memory measures what a cluster with 10,000 Connectors in as many namespaces
// takes in the controller: what its caches hold, and the catalogue.
func memory(_ context.Context, out *results) error {
	const (
		count = 10_000
		bar   = 100
		mib   = 1 << 20
	)
	empty := heap()
	w := newWorld()
	for i := range count {
		name := team(i)
		if err := w.addNamespace(name, name, v1alpha1.SystemNamespace); err != nil {
			return err
		}
		if err := w.addConnector(connector(i, name, "harbor", fmt.Sprintf("https://registry-%d.example.com", i%100))); err != nil {
			return err
		}
	}
	used := float64(heap()-empty) / mib
	runtime.KeepAlive(w)
	out.ratio("memory-to-100MiB", used/bar, 1)
	out.detailf("%.0f MiB for %d Connectors, with their Services, and %d Namespaces, with their pull secrets", used, count, count)
	return nil
}
