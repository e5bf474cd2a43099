package api_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// front is the network of the cluster: the API server asks it by CONNECT for
// the address of a Service, and it leads to Berth.
type front struct {
	http.Server

	port atomic.Int64 // of the webhook
}

// newFront listens on a socket: the API server takes a plain CONNECT proxy nowhere else.
func newFront(ctx context.Context, socket string) (*front, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	f := &front{}
	f.Handler, f.ReadHeaderTimeout = f, time.Minute
	go func() { _ = f.Serve(listener) }() // until Close
	return f, nil
}

// ServeHTTP implements http.Handler for CONNECT.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", "127.0.0.1:"+strconv.FormatInt(f.port.Load(), 10))
	if err != nil || r.Method != http.MethodConnect {
		http.Error(w, "no such Service", http.StatusBadGateway)
		return
	}
	defer func() { _ = to.Close() }()
	from, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = from.Close() }()
	if _, err := io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{to, from}, {from, to}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // either end may close
			done <- struct{}{}
		}()
	}
	<-done
}
