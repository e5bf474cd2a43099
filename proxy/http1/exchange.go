package http1

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// lingers is how long an answer may take where the request could not be written: it may be on its way.
const lingers = time.Second

// exchange is one request and its answer.
type exchange struct {
	*Transport
	conn *conn
	ctx  context.Context //nolint:containedctx // of the request
	stop func() bool     // has the context's end no longer close the connection

	mu       sync.Mutex
	answered bool  // the answer's header is there
	halves   int   // of the exchange, the request and the answer, that go on
	broken   bool  // the connection cannot serve another one
	failure  error // why the request could not be written
	hopeless bool  // so that there is no answer
}

// send writes the request; where it has a body, beside what follows.
func (x *exchange) send(r *http.Request) error {
	x.conn.begin(x.MaxHeaderBytes)
	if r.Body != nil && r.Body != http.NoBody {
		x.conn.await(0)
		x.halves++
		go x.upload(r)
		return nil
	}
	x.conn.await(x.Header)
	return x.conn.write(r)
}

// upload writes a request that has a body.
func (x *exchange) upload(r *http.Request) {
	body := &sent{ReadCloser: r.Body, conn: x.conn}
	out := *r
	out.Body = body
	err := x.conn.write(&out)
	x.uploaded(cmp.Or(body.err, err), body.err != nil || errors.Is(err, os.ErrDeadlineExceeded))
	x.done(err == nil)
}

// uploaded tells that the request was written, or why not, and says how long the answer may take from now on; hopeless: there will be none.
func (x *exchange) uploaded(err error, hopeless bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.failure, x.hopeless = err, hopeless
	switch {
	case x.answered: // which may still be read
	case hopeless:
		x.conn.shut()
	case err != nil:
		x.conn.await(lingers)
	default:
		x.conn.await(x.Header)
	}
}

// sent is a request's body on its way.
type sent struct {
	io.ReadCloser
	conn *conn
	err  error // other than its end
}

// Read implements io.Reader. From now until the next read the server has time to take what is read.
func (s *sent) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	s.conn.patientWrites(s.conn.silence)
	return n, err
}

// receive reads the answer's header.
func (x *exchange) receive(r *http.Request) (*http.Response, error) {
	for {
		response, err := http.ReadResponse(x.conn.reader, r)
		if err == nil {
			err = x.over()
		}
		if err != nil {
			return nil, x.because(err)
		}
		switch status := response.StatusCode; {
		case status < http.StatusContinue:
			return nil, fmt.Errorf("the answer has status %d, which means nothing", status)
		case status >= http.StatusOK || status == http.StatusSwitchingProtocols:
			x.answer(response)
			return response, nil
		}
		if body, ok := r.Body.(Continuer); ok && response.StatusCode == http.StatusContinue {
			body.Continue()
		}
	}
}

// over is why an answer is none, though it came: servers may answer to the end of a connection.
func (x *exchange) over() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.hopeless {
		return x.failure
	}
	return x.ctx.Err()
}

// because is why there is no answer: that the request did not go out, or this error.
func (x *exchange) because(err error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failure != nil {
		return x.failure
	}
	return err
}

// answer has the response's body be that of the exchange.
func (x *exchange) answer(response *http.Response) {
	x.mu.Lock()
	x.answered = true
	x.mu.Unlock()
	x.conn.inBody = true
	last := response.Close || response.StatusCode == http.StatusSwitchingProtocols
	if response.Body == http.NoBody {
		x.done(!last)
		return
	}
	response.Body = &received{from: response.Body, exchange: x, last: last}
}

// received is an answer's body.
type received struct {
	from     io.Reader
	exchange *exchange
	last     bool  // nothing can follow on the connection
	err      error // how it ended
}

// Read implements io.Reader.
func (b *received) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.from.Read(p)
	if err != nil {
		b.end(err)
	}
	return n, b.err
}

// Close implements io.Closer. A body that was not read to its end ends with its connection.
func (b *received) Close() error {
	if b.err == nil {
		b.end(http.ErrBodyReadAfterClose)
	}
	return nil
}

func (b *received) end(err error) {
	whole := errors.Is(err, io.EOF)
	if b.err = err; !whole {
		b.err = ended(b.exchange.ctx, err)
		b.exchange.conn.shut()
	}
	b.exchange.done(whole && !b.last)
}

// done tells that the request, or the answer, is over, and whether the connection may serve another one for all that it knows.
func (x *exchange) done(whole bool) {
	x.mu.Lock()
	x.halves--
	x.broken = x.broken || !whole
	over, broken := x.halves == 0, x.broken
	x.mu.Unlock()
	switch {
	case !over:
	case !x.stop() || broken:
		x.conn.shut()
	default:
		x.put(x.conn)
	}
}

// writers are for headers, and small bodies after them.
var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 2*bufferSize) }} //nolint:gochecknoglobals // as those of net/http
