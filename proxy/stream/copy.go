package stream

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
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
// It holds a buffer of BufferSize, a quarter of that where the body moves slowly,
// up to 1 MiB where it moves fast, and none while it waits for a writer of this
// package, for which the kernel holds little either. From a body that moves fast it
// takes several pieces into a larger buffer before it writes, since a write costs
// more than the bytes in it; what is held back is never more than that buffer, and
// never waits for a piece that does not fill a TLS record.
func (b *Buffers) Copy(w io.Writer, r io.Reader) (written int64, err error) {
	var pace pace
	to, waits := w.(waiting)
	for more := true; more && err == nil; {
		if waits && written > 0 {
			if err := to.ready(pace.fast); err != nil {
				return written, err
			}
		}
		var n int
		n, more, err = piece(w, r, b.of(pace))
		written += int64(n)
		pace.moved(n, b.now())
	}
	return written, err
}

// piece copies what is read at once, and says whether there may be more.
func piece(w io.Writer, r io.Reader, pool *sync.Pool) (written int, more bool, err error) {
	buffer := get(pool)
	defer pool.Put(buffer)
	n, failed := fill(r, *buffer)
	if n > 0 {
		if written, err = w.Write((*buffer)[:n]); err != nil {
			return written, false, err
		}
	}
	if errors.Is(failed, io.EOF) {
		return written, false, nil
	}
	return written, true, failed
}

// waiting is a writer that knows when it can be written to. What is written fast is not waited for.
type waiting interface{ ready(fast bool) error }

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
