package main

import (
	"cmp"
	"fmt"
	"slices"
)

// results prints what is measured, and remembers which bars were missed.
type results struct {
	missed []string
}

// atLeast prints a ratio that must reach its bar, and the aim where there is one.
func (r *results) atLeast(name string, value, bar, aim float64) {
	r.print(name, value, bar, aim)
	if !(value >= bar) { // a NaN misses too
		r.missed = append(r.missed, name)
	}
}

// atMost prints a ratio that may not pass its bar, and the aim where there is one.
func (r *results) atMost(name string, value, bar, aim float64) {
	r.print(name, value, bar, aim)
	if !(value <= bar) {
		r.missed = append(r.missed, name)
	}
}

func (*results) print(name string, value, bar, aim float64) {
	switch {
	case aim != 0 && bar != 0:
		fmt.Printf("ratio %s %.2f (bar %.2f, aim %.2f)\n", name, value, bar, aim)
	case aim != 0:
		fmt.Printf("ratio %s %.2f (aim %.2f)\n", name, value, aim)
	default:
		fmt.Printf("ratio %s %.2f (bar %.2f)\n", name, value, bar)
	}
}

// aim prints a ratio that has no bar.
func (r *results) aim(name string, value, aim float64) { r.print(name, value, 0, aim) }

// detailf prints the absolute values behind a ratio.
func (*results) detailf(format string, args ...any) { fmt.Printf("      "+format+"\n", args...) }

func (r *results) verdict() error {
	if len(r.missed) > 0 {
		return fmt.Errorf("missed: %v", r.missed)
	}
	return nil
}

func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
