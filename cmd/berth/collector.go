package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// roomyHeap is up to what size the heap may grow between two collections however little of it lives: at Go's
	// default a tenth of the time for small requests goes into collecting the few MiB that a proxy at rest has.
	roomyHeap = 24 << 20
	// mostGarbage, busyGarbage and leastGarbage are how much there may be of it, in percent of what lives: at most, at
	// least, and at least where little is made. Thousands of slow pulls make little, and each of them holds memory.
	mostGarbage, busyGarbage, leastGarbage = 400, 50, 10
	// rare is how far apart collections must be to cost next to nothing.
	rare = 2 * time.Second
)

// garbage is how much of it there may be beside so many bytes that live, in percent, but no less than that.
func garbage(live uint64, least int) int {
	if live == 0 || live >= roomyHeap {
		return least
	}
	return int(min(max((roomyHeap-live)*100/live, uint64(least)), mostGarbage)) //nolint:gosec // it is a few hundred
}

// collector says after each collection when the next one is due.
type collector struct {
	last  time.Time
	quiet *time.Timer // runs out when collections have become rare
}

// paceCollector paces collections, unless GOGC does. GOMEMLIMIT, which the manifests set, counts for more than both.
func paceCollector() {
	if os.Getenv("GOGC") == "" {
		(&collector{quiet: time.AfterFunc(rare, giveBack)}).collected()
	}
}

// collected is called after each collection.
func (c *collector) collected() {
	debug.SetGCPercent(garbage(living(), c.least(time.Now())))
	// What nothing refers to is cleaned up after the next collection.
	runtime.AddCleanup(&litter{}, (*collector).collected, c)
}

// least is how much garbage there must be room for after a collection now.
func (c *collector) least(now time.Time) int {
	since := now.Sub(c.last)
	c.last = now
	if since >= rare {
		return leastGarbage
	}
	c.quiet.Reset(rare)
	return busyGarbage
}

// giveBack collects once more, and returns to the kernel what the heap had room for, where so much lives that it may have little.
func giveBack() {
	if isRoomy(living()) {
		debug.FreeOSMemory()
	}
}

// isRoomy reports whether so much lives that there may be little room beside it.
func isRoomy(live uint64) bool { return live >= roomyHeap/2 }

// living is how many bytes of the heap lived at the last collection.
func living() uint64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}

// litter is of a size that has memory of its own.
type litter struct{ _ [64]byte }
