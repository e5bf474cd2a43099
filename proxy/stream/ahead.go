package stream

import "net"

// ahead reads ahead of who reads from it, while bytes come fast.
type ahead struct {
	net.Conn

	buffers *Buffers
	pace    pace
	more    bool    // the last read found as much as it asked for
	held    *[]byte // what was read ahead is in this; nil: nothing was
	rest    []byte
}

// Ahead returns a connection whose reads take more from the kernel at once than
// they are asked for, while bytes come fast: crypto/tls reads each record by
// itself. At other times it holds nothing. As of other connections, there may be
// one Read at a time.
func (b *Buffers) Ahead(conn net.Conn) net.Conn { return &ahead{Conn: conn, buffers: b} }

// Read implements io.Reader.
func (a *ahead) Read(p []byte) (int, error) {
	if a.held == nil {
		if !a.more || !a.pace.fast {
			return a.read(p)
		}
		buffer := get(&a.buffers.large)
		n, err := a.read(*buffer)
		if n <= len(p) {
			defer a.buffers.large.Put(buffer)
			return copy(p, (*buffer)[:n]), err
		}
		a.held, a.rest = buffer, (*buffer)[:n] // an error beside them comes again
	}
	n := copy(p, a.rest)
	if a.rest = a.rest[n:]; len(a.rest) == 0 {
		a.buffers.large.Put(a.held)
		a.held = nil
	}
	return n, nil
}

func (a *ahead) read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	a.more = n == len(p)
	a.pace.moved(n, a.buffers.now())
	return n, err
}
