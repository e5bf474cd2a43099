package accesslog

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// read returns the one line that was written.
func read(t *testing.T, written string) map[string]any {
	t.Helper()
	var line map[string]any
	if err := json.Unmarshal([]byte(written), &line); err != nil || strings.Count(written, "\n") != 1 || !strings.HasSuffix(written, "\n") {
		t.Fatalf("%v: %q", err, written)
	}
	return line
}

// TestLine: a line says what slog would say, in the same words.
func TestLine(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.UTC)
	var ours, theirs bytes.Buffer
	line := New(&ours).Line(now, "request")
	line.Text("method", "GET")
	line.Text("absent", "")
	line.Number("status", 200)
	line.Number("bytes", 0)
	line.True("own")
	line.Failure("error", errors.New("broken"))
	line.Failure("none", nil)
	line.Write()
	record := slog.NewRecord(now, slog.LevelInfo, "request", 0)
	record.Add("method", "GET", "status", 200, "bytes", 0, "own", true, "error", "broken")
	if err := slog.NewJSONHandler(&theirs, nil).Handle(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(theirs.String(), ours.String()); diff != "" {
		t.Errorf("(-slog +ours)\n%s", diff)
	}
}

// TestHostileText: whatever a client sends, it stays within its value.
func TestHostileText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"\"},{\"status\":\"200", "a\nb", "\x00\x1b[2J\u2028", "\xff\xfe", strings.Repeat("\\", 9000)} {
		var written bytes.Buffer
		line := New(&written).Line(time.Now(), "request")
		line.Text("repository", text)
		line.Write()
		got := read(t, written.String())
		if want := strings.ToValidUTF8(text, "\ufffd"); len(got) != 4 || strings.Trim(got["repository"].(string), "\ufffd") != strings.Trim(want, "\ufffd") {
			t.Errorf("%q became %v", text, got)
		}
	}
}

// TestNowhere: the zero value writes nothing.
func TestNowhere(t *testing.T) {
	t.Parallel()
	line := Log{}.Line(time.Now(), "request")
	line.Text("a", "b")
	line.Number("c", 1)
	line.True("d")
	line.Failure("e", errors.ErrUnsupported)
	line.Write()
}

// pieces are what a writer got at once.
type pieces struct {
	mu  sync.Mutex
	got []string
}

func (p *pieces) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, string(b))
	return 0, errors.New("full")
}

// take returns what came since the last call.
func (p *pieces) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.got = nil }()
	return p.got
}

// TestBatch: lines are written together after a while, at once where there are many, and at the end.
func TestBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got pieces
		b := NewBatch(&got)
		write := func(text string) {
			if n, err := b.Write([]byte(text)); n != len(text) || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}
		is := func(want ...string) {
			t.Helper()
			synctest.Wait()
			if diff := cmp.Diff(want, got.take()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		}
		write("a\n")
		<-time.After(delay - time.Nanosecond)
		write("b\n")
		is()
		<-time.After(time.Nanosecond)
		is("a\nb\n")
		<-time.After(time.Hour)
		is()
		write("c\n")
		long := strings.Repeat("d", enough-2)
		write(long)
		is("c\n" + long)
		write("e\n")
		b.Flush()
		is("e\n")
		b.Flush()
		<-time.After(delay)
		is()
	})
}
