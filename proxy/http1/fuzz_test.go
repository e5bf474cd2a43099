package http1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// answered is what a client makes of an answer.
type answered struct {
	failed, bodyFailed bool
	status             int
	header, trailer    string
	body               string
}

// heard asks through a transport whose one connection brings these bytes and then its end.
func heard(t *testing.T, via http.RoundTripper, method string) (a answered, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://registry.example.com/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := via.RoundTrip(r)
	if err != nil {
		return answered{failed: true}, err
	}
	defer response.Body.Close()
	a = answered{status: response.StatusCode}
	if a.status != http.StatusSwitchingProtocols {
		body, failed := io.ReadAll(response.Body)
		a.body, a.bodyFailed = string(body), failed != nil
	}
	// Maps are printed in the order of their keys.
	a.header, a.trailer = fmt.Sprint(response.Header), fmt.Sprint(response.Trailer)
	return a, nil
}

// once dials a connection whose far end says the text, and any other in vain.
func once(text string) func(context.Context, string, string) (net.Conn, error) {
	dialled := false
	return func(context.Context, string, string) (net.Conn, error) {
		if dialled {
			return nil, net.ErrClosed
		}
		dialled = true
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
				_, _ = io.WriteString(far, text)
			}
		}()
		return near, nil
	}
}

// FuzzAnswer: an answer means here what it means to net/http's own client, whatever its bytes are.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{
		plainAnswer, plainAnswer + unasked, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n" + plainAnswer,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nhello", "HTTP/1.1 101 a\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 000 A\r\n\r\n",
	} {
		f.Add(text, false)
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text string, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		theirs := &http.Transport{DialContext: once(text), DisableCompression: true}
		defer theirs.CloseIdleConnections()
		want, why := heard(t, theirs, method)
		if why == nil && want.status < http.StatusContinue {
			want = answered{failed: true}
		}
		if why != nil && strings.Contains(why.Error(), "too many 1xx") { // here the size of the header bounds them
			return
		}
		ours := &Transport{Dial: once(text)}
		defer ours.Close()
		if got, err := heard(t, ours, method); got != want {
			t.Errorf("%+v (%v), and to net/http %+v (%v)", got, err, want, why)
		}
	})
}
