package main

import (
	"fmt"
	"slices"
)

// sample is what one of those that are compared has done.
type sample struct {
	// done is in units of work; seconds are the clock's, and cpu those of the processors.
	done, seconds, cpu float64
}

// unit says how much an outcome is.
type unit struct {
	name string
	of   func(outcome) float64
}

func requests() unit { return unit{"request", func(o outcome) float64 { return float64(o.Requests) }} }

func mebis() unit { return unit{"MiB", func(o outcome) float64 { return float64(o.Bytes) / mib }} }

// taken is what work took, with what the processors did for one of the processes meanwhile.
func taken(cpu func() (float64, error), u unit, work func() (outcome, error)) (sample, error) {
	before, err := cpu()
	if err != nil {
		return sample{}, err
	}
	o, err := work()
	if err != nil {
		return sample{}, err
	}
	after, err := cpu()
	return sample{done: u.of(o), seconds: o.Seconds, cpu: after - before}, err
}

// values are those of each round, by the name of who is compared.
type values struct {
	// done are the units of work in a second, and cost are the seconds of the processors for each.
	done, cost map[string][]float64
}

// byTurns measures each of the names, in rounds that go there and back again, from another one each time: a machine that
// becomes faster or slower meanwhile does so to all alike, and who turns back, twice in a row, is not always the same.
// The first round does not count.
func byTurns(rounds int, names []string, measure func(name string, counts bool) (sample, error)) (values, error) {
	v := values{map[string][]float64{}, map[string][]float64{}}
	for round := range rounds + 1 {
		from := round % len(names)
		there := slices.Concat(names[from:], names[:from])
		back := slices.Clone(there)
		slices.Reverse(back)
		sums := map[string]sample{}
		for _, name := range slices.Concat(there, back) {
			one, err := measure(name, round > 0)
			if err != nil {
				return v, fmt.Errorf("%s: %w", name, err)
			}
			sum := sums[name]
			sums[name] = sample{sum.done + one.done, sum.seconds + one.seconds, sum.cpu + one.cpu}
		}
		for name, sum := range sums {
			if round > 0 {
				v.done[name] = append(v.done[name], sum.done/sum.seconds)
				v.cost[name] = append(v.cost[name], sum.cpu/sum.done)
			}
		}
	}
	return v, nil
}

// has reports whether one of that name was measured.
func (v values) has(name string) bool { return len(v.done[name]) > 0 }

// ratio is how much more ours does in a second.
func (v values) ratio(ours, theirs string) float64 { return ratio(v.done[ours], v.done[theirs]) }

// ratio is the median of the rounds' ratios.
func ratio(ours, theirs []float64) float64 {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / theirs[i]
	}
	return median(ratios)
}
