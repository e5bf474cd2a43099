package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"

	"golang.org/x/sync/errgroup"
)

// dialTunnel asks the proxy for a tunnel, and returns it.
func (l *load) dialTunnel(ctx context.Context) (net.Conn, error) {
	by, err := url.Parse(l.proxy)
	if err != nil {
		return nil, err
	}
	conn, err := l.dial(ctx, "tcp", by.Host)
	if err != nil {
		return nil, err
	}
	secret, _ := by.User.Password()
	asked := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: l.tunnel}, Host: l.tunnel, Header: http.Header{}}
	asked.SetBasicAuth(by.User.Username(), secret)
	asked.Header["Proxy-Authorization"] = asked.Header["Authorization"]
	delete(asked.Header, "Authorization")
	if err := asked.Write(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	// One byte at a time is not read: what follows the answer comes only when the client has asked for it.
	answer, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), asked) //nolint:bodyclose // what follows is the tunnel
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if answer.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(answer.Body, 1024))
		return nil, errors.Join(fmt.Errorf("no tunnel to '%s': %s: %s", l.tunnel, answer.Status, body), conn.Close())
	}
	return conn, nil
}

// rest opens tunnels, and leaves them alone until standard input ends.
func (l *load) rest(ctx context.Context) error {
	conns := make([]net.Conn, l.connections)
	group, failing := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range conns {
		group.Go(func() (err error) {
			conns[i], err = l.dialTunnel(failing)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Println("held")
	_, err := io.Copy(io.Discard, os.Stdin)
	for _, conn := range conns {
		_ = conn.Close()
	}
	return err
}
