package stream

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
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
		"in pieces":                     {from: iotest.HalfReader(bytes.NewReader(content)), largest: largeSize * 7 / 8},
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
	}
	const half = stretch / 2
	for name, steps := range map[string][]step{
		"fast":                {{0, half, false}, {brisk / 3, half, true}, {brisk / 3, half, true}},
		"slow":                {{0, half, false}, {pause, 1, false}, {pause, 1, false}, {pause, half, false}, {1, half, false}},
		"fast, then slow":     {{0, half, false}, {1, half, true}, {pause, 1, true}, {pause, 1, true}, {pause, stretch, false}},
		"fast, then a pause":  {{0, half, false}, {1, half, true}, {pause + 1, 1, false}},
		"a pause begins anew": {{0, stretch - 1, false}, {pause + 1, 1, false}, {1, stretch - 2, false}, {1, 1, true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p pace
			now := begin
			for i, s := range steps {
				now = now.Add(s.after)
				if p.moved(s.bytes, now); p.fast != s.fast {
					t.Fatalf("step %d: fast is %t", i, p.fast)
				}
			}
		})
	}
}

// pieces is a connection that has been sent much, and counts what it is asked for.
type pieces struct {
	net.Conn
	from    io.Reader
	largest int
}

func (c *pieces) Read(p []byte) (int, error) {
	c.largest = max(c.largest, len(p))
	return c.from.Read(p)
}

// TestAhead: the bytes are those of the connection, whatever is asked for, and while they come slowly nothing is held.
func TestAhead(t *testing.T) {
	t.Parallel()
	content := random(3*stretch + 12345)
	for name, tc := range map[string]struct {
		from func(io.Reader) io.Reader
		held bool
	}{
		"all at once":         {from: func(r io.Reader) io.Reader { return r }, held: true},
		"less than asked for": {from: iotest.HalfReader},
		"an end with bytes":   {from: iotest.DataErrReader, held: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := &pieces{from: tc.from(bytes.NewReader(content))}
			ahead, _ := inNoTime().Ahead(conn).(*ahead)
			var got bytes.Buffer
			sizes := rand.New(rand.NewPCG(1, 2))
			for {
				p := make([]byte, 1+sizes.IntN(2*record))
				n, err := ahead.Read(p)
				got.Write(p[:n])
				if err != nil {
					break
				}
			}
			if !bytes.Equal(got.Bytes(), content) {
				t.Errorf("%d bytes of %d came", got.Len(), len(content))
			}
			if held := conn.largest == largeSize; held != tc.held {
				t.Errorf("the largest read asked for %d bytes", conn.largest)
			}
			if ahead.held != nil {
				t.Error("a buffer is held after the end")
			}
		})
	}
}
