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

// steady is a body that takes as long for each stretch of it.
type steady struct {
	io.Reader
	each time.Duration
	now  time.Time
}

func (s *steady) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.now = s.now.Add(s.each * time.Duration(n) / stretch)
	return n, err
}

func TestCopy(t *testing.T) {
	t.Parallel()
	content := random(3*stretch + 12345)
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		from    io.Reader
		each    time.Duration // a stretch takes
		err     error
		largest int
	}{
		"faster":                        {from: bytes.NewReader(content), largest: hugeSize},
		"fast":                          {from: bytes.NewReader(content), each: brisk, largest: largeSize},
		"neither":                       {from: bytes.NewReader(content), each: 2 * brisk, largest: record},
		"in pieces":                     {from: iotest.HalfReader(bytes.NewReader(content)), largest: hugeSize * 127 / 128},
		"with its last bytes":           {from: iotest.DataErrReader(bytes.NewReader(content)), largest: 1 << 10},
		"that breaks off":               {from: io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken)), err: broken, largest: hugeSize},
		"of less than a stretch":        {from: bytes.NewReader(content[:stretch-1]), largest: record},
		"empty":                         {from: bytes.NewReader(nil)},
		"that breaks off with the rest": {from: iotest.TimeoutReader(bytes.NewReader(content[:100])), err: iotest.ErrTimeout, largest: 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var to writes
			buffers, from := NewBuffers(), &steady{tc.from, tc.each, time.Now()}
			buffers.now = func() time.Time { return from.now }
			n, err := buffers.Copy(&to, from)
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
		want  string
	}
	const half = stretch / 2
	for name, steps := range map[string][]step{
		"faster":              {{0, half, ""}, {racing, half, "faster"}, {racing, stretch, "faster"}},
		"fast":                {{0, half, ""}, {brisk / 3, half, "fast"}, {brisk / 3, half, "fast"}},
		"faster, then fast":   {{0, half, ""}, {racing, half, "faster"}, {racing + 1, stretch, "fast"}, {1, stretch, "faster"}},
		"neither":             {{0, half, ""}, {pause, 1, ""}, {pause, 1, ""}, {pause, half, ""}, {1, half, ""}},
		"faster, then none":   {{0, half, ""}, {1, half, "faster"}, {pause, 1, "faster"}, {pause, 1, "faster"}, {pause, stretch, ""}},
		"faster, then paused": {{0, half, ""}, {1, half, "faster"}, {pause + 1, 1, "slow"}},
		"a pause begins anew": {{0, stretch - 1, ""}, {pause + 1, 1, "slow"}, {1, stretch - 2, ""}, {1, 1, "faster"}},
		"slow":                {{0, 1, ""}, {pause + 1, 1, "slow"}, {1, trickle - 2, "slow"}, {1, 1, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p pace
			now := begin
			for i, s := range steps {
				now = now.Add(s.after)
				p.moved(s.bytes, now)
				if got := nameOf(p); got != s.want {
					t.Fatalf("step %d: '%s', want '%s'", i, got, s.want)
				}
			}
		})
	}
}

func nameOf(p pace) string {
	switch {
	case p.fast && p.faster:
		return "faster"
	case p.fast:
		return "fast"
	case p.slow:
		return "slow"
	default:
		return ""
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
