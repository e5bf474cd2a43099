package main

import (
	"cmp"
	"runtime"
	"slices"
	"testing"
	"time"
)

const (
	// rounds of a comparison. Of many short rounds the median is not moved by what else the machine does meanwhile.
	rounds = 301
	// roundTime is how long one side of a round takes, about.
	roundTime = 3 * time.Millisecond
)

// comparison is what two things cost, a against b.
type comparison struct {
	a, b   time.Duration // the medians of one call
	times  float64       // the median of the rounds' ratios
	allocs float64
}

// compare runs a and b by turns, each as often in a round as b fits into roundTime.
func compare(a, b func()) comparison {
	calls := fitting(b)
	as, bs := make([]time.Duration, rounds), make([]time.Duration, rounds)
	ratios := make([]float64, rounds)
	for i := range rounds {
		// Who comes second finds the other's garbage: they take turns at that too.
		if i%2 == 0 {
			as[i], bs[i] = took(calls, a), took(calls, b)
		} else {
			bs[i], as[i] = took(calls, b), took(calls, a)
		}
		ratios[i] = float64(as[i]) / float64(bs[i])
	}
	return comparison{
		a: median(as) / time.Duration(calls), b: median(bs) / time.Duration(calls), times: median(ratios),
		allocs: testing.AllocsPerRun(calls, a) / testing.AllocsPerRun(calls, b),
	}
}

// fitting returns how many calls fit into roundTime. The first ones, which fill pools and caches, do not count.
func fitting(f func()) int {
	const trial = 20
	took(trial, f)
	return max(1, int(roundTime*trial/took(trial, f)))
}

func took(calls int, f func()) time.Duration {
	start := time.Now()
	for range calls {
		f()
	}
	return time.Since(start)
}

func median[T cmp.Ordered](values []T) T { return percentile(values, 50) }

func percentile[T cmp.Ordered](values []T, percent int) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

// heap returns how many bytes are in use.
func heap() int64 {
	// Twice: what has a finalizer goes in the second.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
