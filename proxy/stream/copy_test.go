package stream

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"time"
)

// random returns bytes of which no two stretches are the same.
func random(n int) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(b)
	return b
}

// inNoTime returns buffers for whom no time passes.
func inNoTime() *Buffers {
	b := NewBuffers()
	b.now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	return b
}

// writes are those that a writer got.
type writes struct {
	bytes.Buffer
	largest int
}

func (w *writes) Write(p []byte) (int, error) {
	w.largest = max(w.largest, len(p))
	return w.Buffer.Write(p)
}

func TestCopy(t *testing.T) {
	t.Parallel()
	content := random(3*stretch + 12345)
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		from    io.Reader
		err     error
		largest int
	}{
		"fast":                          {from: bytes.NewReader(content), largest: largeSize},
		"in pieces":                     {from: iotest.HalfReader(bytes.NewReader(content)), largest: largeSize * 31 / 32},
		"with its last bytes":           {from: iotest.DataErrReader(bytes.NewReader(content)), largest: 1 << 10},
		"that breaks off":               {from: io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken)), err: broken, largest: largeSize},
		"of less than a stretch":        {from: bytes.NewReader(content[:stretch-1]), largest: record},
		"empty":                         {from: bytes.NewReader(nil)},
		"that breaks off with the rest": {from: iotest.TimeoutReader(bytes.NewReader(content[:100])), err: iotest.ErrTimeout, largest: 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var to writes
			n, err := inNoTime().Copy(&to, tc.from)
			if !errors.Is(err, tc.err) || n != int64(to.Len()) {
				t.Errorf("%d bytes of %d, %v", n, to.Len(), err)
			}
			if !bytes.HasPrefix(content, to.Bytes()) || tc.err == nil && to.Len() == 0 && name != "empty" {
				t.Error("other bytes than were read")
			}
			if to.largest != tc.largest {
				t.Errorf("the largest write had %d bytes, want %d", to.largest, tc.largest)
			}
		})
	}
}

// TestCopyToNobody: what the writer did not take is not told as written.
func TestCopyToNobody(t *testing.T) {
	t.Parallel()
	reader, writer := io.Pipe()
	_ = reader.Close()
	if n, err := NewBuffers().Copy(writer, bytes.NewReader(random(100))); n != 0 || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%d, %v", n, err)
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	type step struct {
		after time.Duration
		bytes int
		fast  bool
		slow  bool
	}
	const half = stretch / 2
	for name, steps := range map[string][]step{
		"fast":                {{0, half, false, false}, {brisk / 3, half, true, false}, {brisk / 3, half, true, false}},
		"neither":             {{0, half, false, false}, {pause, 1, false, false}, {pause, 1, false, false}, {pause, half, false, false}, {1, half, false, false}},
		"fast, then neither":  {{0, half, false, false}, {1, half, true, false}, {pause, 1, true, false}, {pause, 1, true, false}, {pause, stretch, false, false}},
		"fast, then a pause":  {{0, half, false, false}, {1, half, true, false}, {pause + 1, 1, false, true}},
		"a pause begins anew": {{0, stretch - 1, false, false}, {pause + 1, 1, false, true}, {1, stretch - 2, false, false}, {1, 1, true, false}},
		"slow":                {{0, 1, false, false}, {pause + 1, 1, false, true}, {1, trickle - 2, false, true}, {1, 1, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p pace
			now := begin
			for i, s := range steps {
				now = now.Add(s.after)
				if p.moved(s.bytes, now); p.fast != s.fast || p.slow != s.slow {
					t.Fatalf("step %d: fast is %t, slow is %t", i, p.fast, p.slow)
				}
			}
		})
	}
}

// patient is a writer that says when it is ready.
type patient struct {
	writes
	asked int // about what is not fast
	fast  bool
	err   error
}

func (p *patient) ready(fast bool) error {
	if fast {
		p.fast = true
	} else {
		p.asked++
	}
	return p.err
}

// TestCopyWaits: a writer is asked whether it is ready before each piece but the first, and told what moves fast.
func TestCopyWaits(t *testing.T) {
	t.Parallel()
	late := errors.New("late")
	for name, tc := range map[string]struct {
		size, asked int
		fast        bool
		ready, want error
	}{
		"one piece":   {size: record - 1, asked: 1},
		"four":        {size: 4 * record, asked: 4},
		"fast":        {size: 2 * stretch, asked: stretch/record - 1, fast: true},
		"never ready": {size: 4 * record, asked: 1, ready: late, want: late},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := &patient{err: tc.ready}
			n, err := inNoTime().Copy(to, bytes.NewReader(random(tc.size)))
			if !errors.Is(err, tc.want) || to.asked != tc.asked || to.fast != tc.fast {
				t.Errorf("asked %d times, want %d; fast is %t; %v", to.asked, tc.asked, to.fast, err)
			}
			if want := int64(tc.size); err == nil && n != want {
				t.Errorf("%d bytes, want %d", n, want)
			}
		})
	}
}

// TestDeadline: it is set anew where less than three quarters of the time are left, or more than all of it.
func TestDeadline(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	type step struct {
		after, by time.Duration
		set       bool
	}
	for name, steps := range map[string][]step{
		"none":            {{0, 0, false}, {time.Hour, 0, false}},
		"moves on":        {{0, 40, true}, {1, 40, false}, {9, 40, false}, {1, 40, true}, {1, 40, false}},
		"is over":         {{0, 40, true}, {time.Hour, 40, true}},
		"for less":        {{0, 40, true}, {0, 39, true}, {0, 39, false}},
		"for more":        {{0, 40, true}, {0, 50, false}, {0, 60, true}},
		"no longer":       {{0, 40, true}, {1, 0, true}, {1, 0, false}, {1, 40, true}},
		"at its own time": {{0, 40, true}, {10, 30, false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d Deadline
			now := begin
			for i, s := range steps {
				now = now.Add(s.after)
				at, set := d.Move(now, s.by)
				want := now.Add(s.by)
				if s.by == 0 {
					want = time.Time{}
				}
				if set != s.set || set && !at.Equal(want) {
					t.Fatalf("step %d: %v, %t", i, at, set)
				}
			}
		})
	}
}
