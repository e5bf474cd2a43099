package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// load is what a client does.
type load struct {
	url, user, password, ca string
	connections, requests   int
	// long bounds the time, instead of requests.
	long time.Duration
	// slow clients read a little, tell that they are there, and read no more until standard input ends.
	slow  bool
	http2 bool
	// proxy is the URL of a forward proxy, with a token; tunnel is the address to which it is asked for a tunnel, for
	// plain requests that it does not see.
	proxy, tunnel string
	// fresh has a connection of its own for each request, and its own handshake.
	fresh bool
	// put is the size of a body that is sent; 0 asks for one.
	put int64
	// digest is that of the body: what comes is checked, and what is sent is an upload of its own.
	digest string
	// idle opens tunnels, tells that they stand, and leaves them alone until standard input ends.
	idle bool
}

// outcome is what a client measured.
type outcome struct {
	Seconds  float64 `json:"seconds"`
	Bytes    int64   `json:"bytes"`
	Requests int64   `json:"requests"`
}

// playClient loads a proxy, and prints the outcome as JSON.
func playClient(ctx context.Context, args []string) error {
	collectSeldom()
	var l load
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	flags.StringVar(&l.url, "url", "", "")
	flags.StringVar(&l.user, "user", "", "")
	flags.StringVar(&l.password, "password", "", "")
	flags.StringVar(&l.ca, "ca", "", "")
	flags.IntVar(&l.connections, "connections", 1, "")
	flags.IntVar(&l.requests, "requests", 1, "")
	flags.DurationVar(&l.long, "for", 0, "")
	flags.BoolVar(&l.slow, "slow", false, "")
	flags.BoolVar(&l.http2, "http2", false, "")
	flags.StringVar(&l.proxy, "proxy", "", "")
	flags.StringVar(&l.tunnel, "tunnel", "", "")
	flags.BoolVar(&l.fresh, "fresh", false, "")
	flags.Int64Var(&l.put, "put", 0, "")
	flags.StringVar(&l.digest, "digest", "", "")
	flags.BoolVar(&l.idle, "idle", false, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if l.idle {
		return l.rest(ctx)
	}
	client, err := l.client()
	if err != nil {
		return err
	}
	if l.slow {
		return l.hold(ctx, client)
	}
	out, err := l.run(ctx, client)
	return errors.Join(err, json.NewEncoder(os.Stdout).Encode(out))
}

func (l *load) client() (*http.Client, error) {
	roots, err := pool(l.ca)
	if err != nil {
		return nil, err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(!l.http2)
	protocols.SetHTTP2(l.http2)
	transport := &http.Transport{
		// The key exchange is one that all peers know, and know well.
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.CurveP256}}, Protocols: &protocols,
		MaxIdleConnsPerHost: l.connections, MaxConnsPerHost: l.connections, ReadBufferSize: l.buffer(), WriteBufferSize: l.buffer(), DisableCompression: true,
		DialContext: l.dial, DisableKeepAlives: l.fresh,
	}
	switch {
	case l.tunnel != "":
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dialTunnel(ctx) }
	case l.proxy != "":
		by, err := url.Parse(l.proxy)
		if err != nil {
			return nil, err
		}
		transport.Proxy = http.ProxyURL(by)
	}
	return &http.Client{Transport: transport}, nil
}

// buffer is small where a client takes little at a time: new ones for each connection would cost it more than what is measured.
func (l *load) buffer() int {
	if l.slow || l.long > 0 {
		return 4 << 10
	}
	return 64 << 10
}

// dial makes a connection; that of a slow client takes little at a time.
func (l *load) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, network, address)
	if tcp, ok := conn.(*net.TCPConn); ok && l.slow {
		err = errors.Join(err, tcp.SetReadBuffer(32<<10))
	}
	return conn, err
}

// run sends the requests over the connections.
func (l *load) run(ctx context.Context, client *http.Client) (outcome, error) {
	var out outcome
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	end := start.Add(l.long)
	var sent, bytes, done atomic.Int64
	for range l.connections {
		group.Go(func() error {
			buffer := make([]byte, 256<<10)
			for l.long > 0 && time.Now().Before(end) || l.long == 0 && sent.Add(1) <= int64(l.requests) {
				n, err := l.get(ctx, client, buffer)
				if err != nil {
					return err
				}
				bytes.Add(n)
				done.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	out.Seconds, out.Bytes, out.Requests = time.Since(start).Seconds(), bytes.Load(), done.Load()
	return out, err
}

func (l *load) request(ctx context.Context, client *http.Client) (*http.Response, error) {
	to := l.url
	if l.put > 0 && l.digest != "" {
		var err error
		if to, err = l.begin(ctx, client); err != nil {
			return nil, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return nil, err
	}
	if l.put > 0 {
		r.Method, r.ContentLength, r.Body = http.MethodPut, l.put, io.NopCloser(io.LimitReader(zeroes{}, l.put))
	}
	return l.send(client, r)
}

// send sends a request that must succeed.
func (l *load) send(client *http.Client, r *http.Request) (*http.Response, error) {
	if l.password != "" {
		r.SetBasicAuth(l.user, l.password)
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return nil, errors.Join(fmt.Errorf("'%s' answers %s: %s", r.URL, response.Status, body), response.Body.Close())
	}
	return response, nil
}

// get reads an answer to its end.
func (l *load) get(ctx context.Context, client *http.Client, buffer []byte) (int64, error) {
	response, err := l.request(ctx, client)
	if err != nil {
		return 0, err
	}
	to := io.Discard
	digest := sha256.New()
	if l.digest != "" && l.put == 0 {
		to = digest
	}
	// Hidden behind a plain Writer, the discarding one reads through our buffer.
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, response.Body, buffer)
	if got := fmt.Sprintf("sha256:%x", digest.Sum(nil)); err == nil && l.digest != "" && l.put == 0 && got != l.digest {
		err = fmt.Errorf("what came is '%s', and not '%s'", got, l.digest)
	}
	if err == nil && response.ContentLength >= 0 && n != response.ContentLength {
		err = fmt.Errorf("'%s' ends after %d bytes", l.url, n)
	}
	return n + l.put, errors.Join(err, response.Body.Close())
}

// zeroes is a body without an end.
type zeroes struct{}

// Read implements io.Reader: what is there is good enough.
func (zeroes) Read(p []byte) (int, error) { return len(p), nil }

// hold keeps as many pulls open, at a few kilobytes a second each, until standard input ends.
func (l *load) hold(ctx context.Context, client *http.Client) error {
	ctx, stop := context.WithCancel(ctx)
	group, failing := errgroup.WithContext(ctx)
	var begun atomic.Int64
	doors := make(chan struct{}, 16) // so that nobody waits for the processors until it is too late
	for range l.connections {
		group.Go(func() error {
			doors <- struct{}{}
			response, err := l.request(failing, client)
			<-doors
			if err != nil {
				return err
			}
			begun.Add(1)
			buffer := make([]byte, 8<<10)
			for failing.Err() == nil {
				if _, err := io.ReadFull(response.Body, buffer); err != nil {
					break
				}
				select {
				case <-failing.Done():
				case <-time.After(500 * time.Millisecond):
				}
			}
			return response.Body.Close()
		})
	}
	for begun.Load() < int64(l.connections) && failing.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Println("held")
	_, err := io.Copy(io.Discard, os.Stdin)
	stop()
	return errors.Join(err, group.Wait())
}
