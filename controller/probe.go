package controller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
	"berth.dev/berth/egress"
)

const (
	probeTimeout = 10 * time.Second
	userAgent    = "berth-controller"
)

// DialContext dials a registry; (*egress.Dialer).DialContext is one.
type DialContext func(ctx context.Context, network, address string) (net.Conn, error)

// probe asks a registry whether it lives and takes a credential.
type probe struct {
	address   string
	transport *http.Transport
}

func newProbe(address string, caCert []byte, dial DialContext) (*probe, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(caCert) > 0 {
		roots, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("read the system's certificate authorities: %w", err)
		}
		roots.AppendCertsFromPEM(caCert)
		config.RootCAs = roots
	}
	return &probe{address: address, transport: &http.Transport{
		DialContext: dial, TLSClientConfig: config, TLSHandshakeTimeout: probeTimeout, DisableKeepAlives: false,
	}}, nil
}

func (p *probe) close() { p.transport.CloseIdleConnections() }

// get returns the status of an answer to GET, without following redirects.
func (p *probe) get(ctx context.Context, path string, authorize func(*http.Request)) (int, error) {
	status, _, err := p.ask(ctx, path, authorize)
	return status, err
}

// ask returns the status and header of an answer to GET, without following
// redirects. Its errors name the cause, not the request.
func (p *probe) ask(ctx context.Context, path string, authorize func(*http.Request)) (int, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.address+path, nil)
	if err != nil {
		return 0, nil, errors.New("`spec.address` is not a URL")
	}
	request.Header.Set("User-Agent", userAgent)
	if authorize != nil {
		authorize(request)
	}
	response, err := p.transport.RoundTrip(request)
	if err != nil {
		return 0, nil, cause(ctx, err)
	}
	return response.StatusCode, response.Header, response.Body.Close()
}

// signIn asks for a path with the credential. Where the registry wants a token
// in its stead, it asks for one, and for the path again with that. Its errors
// are *bearer.Error too.
func (p *probe) signIn(ctx context.Context, path string, spec *v1alpha1.ConnectorSpec, authorize func(*http.Request)) (status int, exchanged bool, err error) {
	status, header, err := p.ask(ctx, path, authorize)
	challenge, wantsToken := bearer.ParseChallenge(header)
	if err != nil || status != http.StatusUnauthorized || !wantsToken {
		return status, false, err
	}
	trust, err := bearer.NewTrust(spec)
	if err != nil {
		return 0, false, err
	}
	timed, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	token, err := bearer.Exchange(timed, p.transport, bearer.Request{Challenge: challenge, Scopes: challenge.Scopes, Trust: trust, Authorize: authorize})
	if err != nil {
		return 0, false, err
	}
	status, err = p.get(ctx, path, token.Authorize)
	return status, true, err
}

// cause drops from an error what would differ from one attempt to the next, so
// that a status is not written anew each time: local ports and the like.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("no answer within %s", probeTimeout)
	}
	if asURL, ok := errors.AsType[*url.Error](err); ok {
		err = asURL.Err
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("look up '%s': %s", dns.Name, dns.Err)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return fmt.Errorf("the certificate '%s' is good from %s until %s only", invalid.Cert.Subject,
			invalid.Cert.NotBefore.Format(time.RFC3339), invalid.Cert.NotAfter.Format(time.RFC3339))
	}
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case !ok || errors.Is(err, egress.ErrForbidden):
		return err
	case op.Addr == nil: // of TLS: an alert
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	default:
		return fmt.Errorf("%s %s: %w", op.Op, op.Addr, op.Err)
	}
}
