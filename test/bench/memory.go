package main

import (
	"context"
	"fmt"
	"runtime"

	"berth.dev/berth/api/v1alpha1"
)

// memory measures what a cluster with 10,000 Connectors in as many namespaces
// takes in the controller: what its caches hold, and the catalogue. The bar holds
// with the Services, which the controller caches for itself; what admission asks is said besides.
func memory(_ context.Context, out *results) error {
	const (
		count = 10_000
		bar   = 100 << 20
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
	used := heap() - empty
	out.note("memory-of-admission-to-100MiB", float64(used)/bar)
	out.detailf("%d MiB for %d Connectors, and as many Namespaces with their pull secrets", used>>20, count)
	for i := range count {
		if err := w.addService(team(i), "harbor"); err != nil {
			return err
		}
	}
	used = heap() - empty
	runtime.KeepAlive(w)
	out.ratio("memory-to-100MiB", float64(used)/bar, 1)
	out.detailf("%d MiB with the Connectors' Services", used>>20)
	return nil
}
