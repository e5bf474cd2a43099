package stream

import "encoding/binary"

const (
	// record is the most that a TLS record has of content, and recordHeader what stands before it (RFC 8446 §5.1).
	record       = 16 << 10
	recordHeader = 5
)

// records follows where the records are in what TLS reads.
type records struct {
	header [recordHeader]byte
	have   int // of the header
	left   int // of the content
}

// within reports whether a record has begun, and how many bytes of its content have not come.
func (r *records) within() (left int, ok bool) { return r.left, r.left > 0 }

// between reports whether the last record has come whole, and none after it has begun.
func (r *records) between() bool { return r.have == 0 && r.left == 0 }

// passed tells of bytes that came.
func (r *records) passed(p []byte) {
	for len(p) > 0 {
		if r.left > 0 {
			n := min(r.left, len(p))
			r.left, p = r.left-n, p[n:]
			continue
		}
		n := copy(r.header[r.have:], p)
		r.have, p = r.have+n, p[n:]
		if r.have == recordHeader {
			r.have, r.left = 0, int(binary.BigEndian.Uint16(r.header[3:]))
		}
	}
}
