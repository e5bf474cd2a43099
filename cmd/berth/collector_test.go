package main

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGarbage(t *testing.T) {
	for live, want := range map[uint64]int{
		0: leastGarbage, 1: mostGarbage, 4 << 20: mostGarbage, 6 << 20: 300, 12 << 20: 100, 16 << 20: 50, 20 << 20: 20, 23 << 20: leastGarbage, 1 << 40: leastGarbage,
	} {
		if got := garbage(live, leastGarbage); got != want {
			t.Errorf("beside %d bytes: %d%%, want %d%%", live, got, want)
		}
	}
}

// TestCollections: where they are rare there is little room for garbage, and where they cease to be frequent memory is given back.
func TestCollections(t *testing.T) {
	c := &collector{quiet: time.AfterFunc(time.Hour, giveBack)}
	now := time.Now()
	for i, step := range []struct {
		after time.Duration
		least int
		waits bool
	}{
		{0, leastGarbage, false}, {rare - 1, busyGarbage, true}, {rare - 1, busyGarbage, true}, {rare, leastGarbage, false}, {1, busyGarbage, true},
	} {
		c.quiet.Stop()
		now = now.Add(step.after)
		if least := c.least(now); least != step.least {
			t.Errorf("step %d: %d%%, want %d%%", i, least, step.least)
		}
		if waits := c.quiet.Stop(); waits != step.waits {
			t.Errorf("step %d: memory will be given back is %t, want %t", i, waits, step.waits)
		}
	}
}

// TestGiveBack: what the heap has room for is given back where much lives.
func TestGiveBack(t *testing.T) {
	released := func() int64 {
		given := []metrics.Sample{{Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(given)
		return int64(given[0].Value.Uint64())
	}
	const much = 128 << 20
	alive, dead := make([]byte, much/2), make([]byte, much)
	before := released()
	runtime.KeepAlive(dead)
	runtime.GC()
	giveBack()
	if given := released() - before; given < much/2 {
		t.Errorf("beside %d bytes that live, %d were given back", len(alive), given)
	}
	runtime.KeepAlive(alive)
}

// TestKept: where little lives, the room beside it is kept. Who else of this process gives memory back, such as Go itself, is not asked.
func TestKept(t *testing.T) {
	for live, want := range map[uint64]bool{0: false, roomyHeap/2 - 1: false, roomyHeap / 2: true, 1 << 40: true} {
		if got := isRoomy(live); got != want {
			t.Errorf("beside %d bytes: %t", live, got)
		}
	}
}
