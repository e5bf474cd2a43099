package accesslog

import (
	"io"
	"sync"
	"time"
)

const (
	// delay is how long a line may wait for others, and so what is lost of the log where the process is killed.
	delay = 10 * time.Millisecond
	// enough is how many bytes do not wait.
	enough = 32 << 10
)

// Batch is a writer that writes lines together, since to write one costs more
// than to put it together. Make it by NewBatch, and Flush it before the process
// ends. Safe for concurrent use.
type Batch struct {
	to io.Writer

	mu    sync.Mutex
	lines []byte
	timer *time.Timer
}

// NewBatch returns a writer of batches. What cannot be written is lost: there is nobody to tell.
func NewBatch(to io.Writer) *Batch {
	b := &Batch{to: to}
	b.timer = time.AfterFunc(delay, b.Flush)
	return b
}

// Write implements io.Writer. It takes whole lines, and never fails.
func (b *Batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.lines) == 0 {
		b.timer.Reset(delay)
	}
	b.lines = append(b.lines, p...)
	if len(b.lines) >= enough {
		b.write()
	}
	return len(p), nil
}

// Flush writes what waits.
func (b *Batch) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write()
}

func (b *Batch) write() {
	if len(b.lines) == 0 {
		return
	}
	_, _ = b.to.Write(b.lines)
	b.lines = b.lines[:0]
}
