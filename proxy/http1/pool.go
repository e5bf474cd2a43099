package http1

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"berth.dev/berth/proxy/stream"
)

// origin is whom a connection leads to: the scheme and the host of a URL.
type origin struct{ scheme, host string }

// address is what to dial.
func (o origin) address() string {
	to := url.URL{Host: o.host}
	port := to.Port()
	switch {
	case port != "":
	case o.scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(to.Hostname(), port)
}

// pool holds the connections that serve no request.
type pool struct {
	mu     sync.Mutex
	idle   map[origin][]*conn // the latest last
	timer  *time.Timer        // nil: there is none
	closed bool
}

// take returns a connection for a request.
func (t *Transport) take(ctx context.Context, to origin) (*conn, error) {
	for {
		c := t.pool.pop(to)
		if c == nil {
			return t.dial(ctx, to)
		}
		if stream.Quiet(c.Conn) {
			return c, nil
		}
		c.shut() // the server has closed it, or said what nobody asked for
	}
}

func (t *Transport) dial(ctx context.Context, to origin) (*conn, error) {
	dial, ok := map[string]func(context.Context, string, string) (net.Conn, error){"http": t.Dial, "https": t.DialTLS}[to.scheme]
	if !ok {
		return nil, fmt.Errorf("URLs of scheme '%s' lead nowhere", to.scheme)
	}
	made, err := dial(ctx, "tcp", to.address())
	if err != nil {
		return nil, err
	}
	return t.newConn(made, to), nil
}

func (p *pool) pop(to origin) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.idle[to]
	if len(all) == 0 {
		return nil
	}
	last := len(all) - 1
	c := all[last]
	p.idle[to] = slices.Delete(all, last, last+1)
	return c
}

// put keeps a connection for a next request.
func (t *Transport) put(c *conn) {
	if c.reader.Buffered() > 0 || !t.pool.push(c, t.MaxIdle, t.Idle) {
		c.shut()
	}
}

// push reports whether the connection is kept.
func (p *pool) push(c *conn, most int, idle time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.idle[c.at]
	if p.closed || most > 0 && len(all) >= most {
		return false
	}
	if p.idle == nil {
		p.idle = map[origin][]*conn{}
	}
	c.since, c.used = time.Now(), true
	p.idle[c.at] = append(all, c)
	if p.timer == nil && idle > 0 {
		p.timer = time.AfterFunc(idle, func() { p.reap(idle) })
	}
	return true
}

// reap closes what was idle for too long, and comes again when the next will have been.
func (p *pool) reap(idle time.Duration) {
	for _, c := range p.expired(time.Now(), idle) {
		c.shut()
	}
}

func (p *pool) expired(now time.Time, idle time.Duration) (all []*conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	next := idle
	for to, kept := range p.idle {
		n := 0
		for n < len(kept) && now.Sub(kept[n].since) >= idle {
			n++
		}
		all = append(all, kept[:n]...)
		if n == len(kept) {
			delete(p.idle, to)
			continue
		}
		p.idle[to] = slices.Delete(kept, 0, n)
		next = min(next, idle-now.Sub(kept[0].since))
	}
	if len(p.idle) > 0 {
		p.timer = time.AfterFunc(next, func() { p.reap(idle) })
	}
	return all
}

// drop closes the connections to an origin.
func (p *pool) drop(to origin) {
	p.mu.Lock()
	all := p.idle[to]
	delete(p.idle, to)
	p.mu.Unlock()
	for _, c := range all {
		c.shut()
	}
}

// close closes all connections, and has none kept any more.
func (p *pool) close() {
	p.mu.Lock()
	all := p.idle
	p.idle, p.closed = nil, true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	for _, some := range all {
		for _, c := range some {
			c.shut()
		}
	}
}
