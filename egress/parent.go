package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// ErrParent is wrapped by the error of a connection that the parent proxy did not make.
var ErrParent = errors.New("the parent proxy does not lead there")

const (
	// mostAnswer is how long the header of a parent's answer may be.
	mostAnswer = 16 << 10
	// lookTime is how long a name is looked up that the parent would look up itself.
	lookTime = time.Second
)

// Parent is a proxy that leads out of a network that has no other way. Make it by NewParent.
type Parent struct {
	url     *url.URL
	through func(*url.URL) (*url.URL, error)
	// credential returns 'user:password', or nothing.
	credential func() (string, error)
}

// NewParent returns the proxy at 'http://HOST:PORT' or 'https://HOST:PORT'. What noProxy lists, by the rules that
// NO_PROXY has in Go, is reached without it. The credential, 'user:password' or nothing, is asked for at each connection.
func NewParent(address string, noProxy []string, credential func() (string, error)) (*Parent, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("it must be 'http://HOST:PORT' or 'https://HOST:PORT', without a user: that is in a file of its own") // without the text, which may hold one
	}
	rules := httpproxy.Config{HTTPProxy: address, HTTPSProxy: address, NoProxy: strings.Join(noProxy, ",")}
	return &Parent{url: u, through: rules.ProxyFunc(), credential: credential}, nil
}

// leads reports whether the way to a target is by the parent.
func (p *Parent) leads(to Target) bool {
	u, err := p.through(&url.URL{Scheme: "https", Host: net.JoinHostPort(to.Host, to.Port)})
	return err == nil && u != nil
}

// Authorization is the value of the header Proxy-Authorization, empty where there is no credential.
func (p *Parent) Authorization() (string, error) {
	credential, err := p.credential()
	if err != nil || credential == "" {
		return "", err
	}
	user, password, _ := strings.Cut(credential, ":")
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization"), nil
}

// URL is where it is.
func (p *Parent) URL() *url.URL { return p.url }

// connect has the parent make a tunnel.
func (p *Parent) connect(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), to Target) (net.Conn, error) {
	conn, err := dial(ctx, "tcp", p.url.Host)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParent, err)
	}
	if p.url.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: p.url.Hostname(), MinVersion: tls.VersionTLS12})
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	tunnel, err := p.ask(conn, to)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%w: %w", ErrParent, err)
	}
	return tunnel, nil
}

// ask sends CONNECT and reads the answer. What comes behind its header is the target's.
func (p *Parent) ask(conn net.Conn, to Target) (net.Conn, error) {
	authorization, err := p.Authorization()
	if err != nil {
		return nil, err
	}
	authority := net.JoinHostPort(to.Host, to.Port)
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: authority}, Host: authority, Header: http.Header{"User-Agent": {""}}}
	if authorization != "" {
		r.Header.Set("Proxy-Authorization", authorization)
	}
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(io.LimitReader(conn, mostAnswer))
	answer, err := http.ReadResponse(reader, r) //nolint:bodyclose // what follows is the tunnel
	if err != nil {
		return nil, errors.New("its answer is not one of a proxy, or did not come whole") // without what it says
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers with status %d", answer.StatusCode)
	}
	early, _ := reader.Peek(reader.Buffered()) // they are there
	if len(early) == 0 {
		return conn, nil
	}
	return &begun{Conn: conn, early: bytes.NewReader(early)}, nil
}

// begun is a connection whose first bytes were read already.
type begun struct {
	net.Conn
	early *bytes.Reader
}

// Read implements net.Conn.
func (b *begun) Read(p []byte) (int, error) {
	if b.early.Len() > 0 {
		return b.early.Read(p)
	}
	return b.Conn.Read(p)
}

// CloseWrite says that nothing more will come, where the connection can.
func (b *begun) CloseWrite() error {
	if half, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return b.Close()
}

// admit is what can be said of a host before the parent resolves its name. One that is an address, or that resolves
// here, must lead to addresses that are all allowed, since the parent may take any of them. Of one that does not resolve
// here only the name is known.
func (w *Way) admit(ctx context.Context, p *Policy, to Target) error {
	if err := p.checkHost(to.Host); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	found, err := w.resolve(ctx, to)
	if errors.Is(err, ErrHost) {
		return err
	}
	if err != nil {
		return p.checkUnresolved(to.Host)
	}
	for _, address := range found {
		if err := w.Check(address); err != nil {
			return err
		}
		if err := p.checkAddress(to.Host, address.Addr()); err != nil {
			return err
		}
	}
	return nil
}
