package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// roomyHeap is up to what size the heap may grow between two collections however little of it lives: at Go's
	// default a tenth of the time for small requests goes into collecting the few MiB that a proxy at rest has.
	roomyHeap = 32 << 20
	// leastGarbage and mostGarbage are how much there may be of it, in percent of what lives: thousands of slow pulls
	// make little garbage, and each of them holds memory.
	leastGarbage, mostGarbage = 50, 400
)

// garbage is how much of it there may be beside so many bytes that live, in percent.
func garbage(live uint64) int {
	if live == 0 || live >= roomyHeap {
		return leastGarbage
	}
	return int(min(max((roomyHeap-live)*100/live, leastGarbage), mostGarbage))
}

// paceCollector says after each collection when the next one is due, unless GOGC does. GOMEMLIMIT, which the manifests
// set, counts for more than both.
func paceCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetGCPercent(garbage(live[0].Value.Uint64()))
	// What nothing refers to is cleaned up after the next collection.
	runtime.AddCleanup(&collected{}, func(struct{}) { paceCollector() }, struct{}{})
}

// collected is of a size that has memory of its own.
type collected struct{ _ [64]byte }
