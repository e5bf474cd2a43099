package stream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestProgress: who sends enough has the whole patience again, who drips does not; what is waited for the registry counts for nothing.
func TestProgress(t *testing.T) {
	const patience, spent = time.Hour, 59 * time.Minute
	sent := 0
	deadline := &deadlines{ResponseWriter: httptest.NewRecorder()}
	b := NewBody(io.NopCloser(readerFunc(func(p []byte) (int, error) { return copy(p, make([]byte, sent)), nil })), http.NewResponseController(deadline), patience)
	buffer := make([]byte, 2*leastProgress)
	for i, test := range []struct {
		bytes int
		whole bool
	}{{1, false}, {leastProgress - 2, false}, {1, true}, {leastProgress - 1, false}, {1, true}, {2 * leastProgress, true}} {
		b.left = patience - spent
		sent = test.bytes
		if n, err := b.Read(buffer); n != sent || err != nil {
			t.Fatal(n, err)
		}
		if left := time.Until(deadline.read); left > patience-spent {
			t.Errorf("step %d: the client had %s for it", i, left)
		}
		if whole := b.left == patience; whole != test.whole {
			t.Errorf("step %d: %s are left", i, b.left)
		}
	}
	b.Finish()
	if _, err := b.Read(buffer); err == nil {
		t.Error("a body is read after the answer")
	}
}

// deadlines is a response whose deadline for reads is seen.
type deadlines struct {
	http.ResponseWriter
	read time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.read = at
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
