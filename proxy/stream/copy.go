package stream

import (
	"errors"
	"io"
	"maps"
	"net/http"
)

// Answer sends a registry's answer to the client. After an error, at either end,
// the connection must break off too, by http.ErrAbortHandler: the client may not
// take a part for the whole.
//
// This is what httputil.ReverseProxy does, less what package upstream has done
// already and what Berth forwards to nobody: upgrades, trailers, informational
// responses.
func (b *Buffers) Answer(w *Response, r *http.Response) error {
	defer func() { _ = r.Body.Close() }()
	maps.Copy(w.Header(), r.Header)
	w.WriteHeader(r.StatusCode)
	if r.ContentLength == 0 {
		return nil
	}
	_, err := b.Copy(w, r.Body)
	return err
}

// Copy copies a body to the end of it, and returns how many bytes the writer
// took. What was read before an error is written first.
//
// It holds a buffer of BufferSize. From a body that moves fast it takes several
// pieces into a larger one before it writes, since a write costs more than the
// bytes in it; what is held back is never more than that buffer, and never waits
// for a piece that does not fill a TLS record.
func (b *Buffers) Copy(w io.Writer, r io.Reader) (written int64, err error) {
	pool := &b.small
	buffer := get(pool)
	defer func() { pool.Put(buffer) }()
	var pace pace
	for {
		n, failed := fill(r, *buffer)
		if n > 0 {
			taken, err := w.Write((*buffer)[:n])
			written += int64(taken)
			if err != nil {
				return written, err
			}
		}
		if errors.Is(failed, io.EOF) {
			return written, nil
		}
		if failed != nil {
			return written, failed
		}
		pace.moved(n, b.now())
		if next := b.of(pace.fast); next != pool {
			pool.Put(buffer)
			pool, buffer = next, get(next)
		}
	}
}

// fill reads until the buffer is full or there is less than a record to read.
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var piece int
		piece, err = r.Read(buffer[n:])
		n += piece
		if piece < record {
			break
		}
	}
	return n, err
}
