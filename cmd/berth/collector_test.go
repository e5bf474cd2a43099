package main

import "testing"

func TestGarbage(t *testing.T) {
	for live, want := range map[uint64]int{
		0: leastGarbage, 1: mostGarbage, 8 << 20: mostGarbage, 16 << 20: 300, 32 << 20: 100, 40 << 20: 60, 60 << 20: leastGarbage, 1 << 40: leastGarbage,
	} {
		if got := garbage(live); got != want {
			t.Errorf("beside %d bytes: %d%%, want %d%%", live, got, want)
		}
	}
}
