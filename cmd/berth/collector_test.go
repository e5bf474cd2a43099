package main

import "testing"

func TestGarbage(t *testing.T) {
	for live, want := range map[uint64]int{
		0: leastGarbage, 1: mostGarbage, 4 << 20: mostGarbage, 8 << 20: 300, 16 << 20: 100, 20 << 20: 60, 30 << 20: leastGarbage, 1 << 40: leastGarbage,
	} {
		if got := garbage(live); got != want {
			t.Errorf("beside %d bytes: %d%%, want %d%%", live, got, want)
		}
	}
}
