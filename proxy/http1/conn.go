package http1

import (
	"bufio"
	"cmp"
	"io"
	"math"
	"net"
	"net/http"
	"time"

	"berth.dev/berth/proxy/stream"
)

// bufferSize is for a header: most fit. Bodies go past it.
const bufferSize = 2 << 10

// conn is a connection to a server.
type conn struct {
	net.Conn
	at     origin
	reader *bufio.Reader
	since  time.Time // it serves no request
	used   bool      // it has served one

	silence       time.Duration
	header        int64 // how much more may come of one
	inBody        bool  // what comes is of a body
	lost          error // of the last read of a header
	failed        error // a write
	reads, writes stream.Deadline
}

func (t *Transport) newConn(c net.Conn, at origin) *conn {
	made := &conn{Conn: c, at: at, silence: t.Silence}
	made.reader = bufio.NewReaderSize(made, bufferSize)
	return made
}

// shut closes the connection.
func (c *conn) shut() { _ = c.Close() } // nobody could do anything about an error

// await is before an answer, whose header may take that long; 0 is for ever.
func (c *conn) await(d time.Duration) {
	if at, changed := c.reads.Move(time.Now(), d); changed {
		_ = c.SetReadDeadline(at) // fails on a connection that is closed
	}
}

// begin is before an exchange.
func (c *conn) begin(maxHeader int64) {
	c.inBody = false
	if c.header = maxHeader; maxHeader == 0 {
		c.header = math.MaxInt64
	}
}

// Read implements io.Reader.
func (c *conn) Read(p []byte) (int, error) {
	if c.inBody {
		c.await(c.silence)
		return c.Conn.Read(p)
	}
	if c.header <= 0 {
		return 0, ErrHeaderTooLarge
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.header)])
	c.header -= int64(n)
	c.lost = err
	return n, err
}

// patientWrites gives the far end so long anew to take what is written; 0 is for ever.
func (c *conn) patientWrites(d time.Duration) {
	if at, changed := c.writes.Move(time.Now(), d); changed {
		_ = c.SetWriteDeadline(at) // fails on a connection that is closed
	}
}

// Write implements io.Writer.
func (c *conn) Write(p []byte) (n int, err error) {
	n, c.failed = c.Conn.Write(p)
	return n, c.failed
}

// ReadFrom implements io.ReaderFrom: a body goes to the connection in the way that suits it best.
func (c *conn) ReadFrom(r io.Reader) (n int64, err error) {
	n, c.failed = io.Copy(c.Conn, r)
	return n, c.failed
}

// write writes a request. Its error is that of the connection, which net/http would hide in one of its own.
func (c *conn) write(r *http.Request) error {
	w, _ := writers.Get().(*bufio.Writer)
	w.Reset(c)
	defer func() {
		w.Reset(nil)
		writers.Put(w)
	}()
	c.patientWrites(c.silence)
	err := r.Write(w)
	if err == nil {
		err = w.Flush()
	}
	return cmp.Or(c.failed, err)
}
