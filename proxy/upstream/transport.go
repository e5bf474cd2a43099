package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/access"
	"berth.dev/berth/proxy/credential"
	"berth.dev/berth/proxy/http1"
	"berth.dev/berth/proxy/stream"
)

const (
	// mostTransports bounds the Connectors that have connections at one time: 10,000 and some.
	mostTransports  = 16384
	idlePerRegistry = 1024 // Go's default of 2 exhausts ports under load
	idleTime        = 90 * time.Second
	continueTime    = time.Second
	maxHeaderBytes  = 256 << 10
)

// transports holds the connections of each Connector, by its UID: a Connector
// that was deleted and made anew inherits none.
type transports struct {
	dialer   Dialer
	timeouts Timeouts
	buffers  *stream.Buffers

	mu    sync.Mutex
	byUID *lru.Cache[types.UID, trusting]
}

// trusting is a transport, and the version of the authorities that it trusts.
type trusting struct {
	*http1.Transport
	version credential.Version
}

func newTransports(dialer Dialer, timeouts Timeouts) *transports {
	t := &transports{dialer: dialer, timeouts: timeouts, buffers: stream.NewBuffers()}
	t.byUID, _ = lru.NewWithEvict(mostTransports, func(_ types.UID, old trusting) { // fails only for a size below 1
		old.Close()
	})
	return t
}

// of returns the transport of the Connector that trusts the authorities, and closes the idle connections of one
// that trusted others.
func (t *transports) of(c *access.Connector, authorities credential.Authorities) (*http1.Transport, error) {
	if found, ok := t.byUID.Get(c.UID); ok && found.version == authorities.Version {
		return found.Transport, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	found, ok := t.byUID.Get(c.UID)
	if ok && found.version == authorities.Version {
		return found.Transport, nil
	}
	roots, err := trusted(authorities)
	if err != nil {
		return nil, err
	}
	if ok {
		t.byUID.Remove(c.UID)
	}
	made := t.make(roots)
	t.byUID.Add(c.UID, trusting{Transport: made, version: authorities.Version})
	return made, nil
}

// retrying sends once more what failed with its connection and may be repeated.
type retrying struct{ *http1.Transport }

// RoundTrip implements http.RoundTripper.
func (t retrying) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.Transport.RoundTrip(r)
	if err != nil && again(r, err) {
		response, err = t.Transport.RoundTrip(r)
	}
	return response, err
}

// dialTLS returns a function that makes a connection over TLS by the configuration, for bodies in both directions.
func (t *transports) dialTLS(config *tls.Config) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := t.dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		config := config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(address) // http1.Transport has put it together
		secure := t.buffers.Client(conn, config)
		shaking, cancel := context.WithTimeout(ctx, t.timeouts.Handshake)
		defer cancel()
		if err := secure.HandshakeContext(shaking); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return secure, nil
	}
}

func (t *transports) make(roots *x509.CertPool) *http1.Transport {
	return &http1.Transport{
		Dial:           t.dialer.DialContext,
		DialTLS:        t.dialTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}),
		Header:         t.timeouts.Header,
		Silence:        t.timeouts.Silence,
		Idle:           idleTime,
		MaxIdle:        idlePerRegistry,
		MaxHeaderBytes: maxHeaderBytes,
	}
}

// trusted are the public authorities and the Connector's own; nil stands for the public ones alone.
func trusted(authorities credential.Authorities) (*x509.CertPool, error) {
	bundle, err := authorities.PEM()
	if err != nil || bundle == nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the public certificate authorities of this system: %w", err)
	}
	roots.AppendCertsFromPEM(bundle) // PEM has looked that there are certificates
	return roots, nil
}
