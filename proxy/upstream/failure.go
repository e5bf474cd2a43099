package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
	"berth.dev/berth/egress"
	"berth.dev/berth/proxy/credential"
	"berth.dev/berth/secret"
)

// Error is why a registry gave no answer that a client could have.
type Error struct {
	// Registry is its host, with the port where it is not the default one.
	Registry string
	// Reason is one of the reasons of v1alpha1.
	Reason string
	// Detail says what went wrong and what to do, without a word about the
	// addresses behind the registry's name.
	Detail string
	// Status is the registry's, 0 where it did not answer.
	Status int
	// Err is the cause, for the log; it may be nil, and never holds a credential.
	Err error
}

// Error is the detail with the registry's name.
func (e *Error) Error() string { return fmt.Sprintf("registry '%s': %s", e.Registry, e.Detail) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the registry did not answer in time.
func (e *Error) Timeout() bool { return timeout(e.Err) }

func timeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// failed is the error of an exchange that got no answer from its registry.
func (x *exchange) failed(err error) error {
	if ended := context.Cause(x.request.Context()); ended != nil {
		return ended
	}
	if _, ok := errors.AsType[*secret.Problem](err); ok {
		return err
	}
	if e, ok := errors.AsType[*bearer.Error](err); ok {
		return unauthorised(x.connector, e)
	}
	if errors.Is(err, credential.ErrRefused) {
		return refused(x.connector, http.StatusUnauthorized, false)
	}
	reason, detail := explain(err)
	return &Error{Registry: x.connector.Registry, Reason: reason, Detail: detail, Err: err}
}

// unauthorised says why there is no token.
func unauthorised(c *access.Connector, e *bearer.Error) *Error {
	reason, detail := e.Reason, e.Detail
	if e.Err != nil && e.Reason == v1alpha1.ReasonUnreachable {
		var why string
		reason, why = explain(e.Err)
		detail = fmt.Sprintf("%s (%s)", detail, why)
	}
	return &Error{Registry: c.Registry, Reason: reason, Detail: detail, Status: e.Status, Err: e}
}

func explain(err error) (reason, detail string) {
	var untrusted *tls.CertificateVerificationError
	var dns *net.DNSError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.Is(err, egress.ErrForbidden):
		return v1alpha1.ReasonAddressForbidden, "its name leads to an address that Berth never dials, such as loopback, link-local, the API server's or Berth's own"
	case errors.As(err, &untrusted):
		return v1alpha1.ReasonUnreachable, fmt.Sprintf("its certificate is not trusted (%v); name the authority that signs it in the Connector's `caCertSecretRef`", untrusted.Err)
	case errors.As(err, &notTLS):
		return v1alpha1.ReasonUnreachable, "it does not speak TLS; the Connector's `address` may have to start with 'http://', or to name another port"
	case timeout(err):
		return v1alpha1.ReasonUnreachable, "it did not answer in time"
	case errors.As(err, &dns):
		return v1alpha1.ReasonUnreachable, "its name cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return v1alpha1.ReasonUnreachable, "it refuses connections"
	default:
		return v1alpha1.ReasonUnreachable, "the connection failed"
	}
}

// refused is the answer 401 or 403 of the registry. The client's token was
// good, so it is no refusal of the client. After an exchange that went well, or
// with 403, the credential is good too, and grants too little.
func refused(c *access.Connector, status int, exchanged bool) *Error {
	reason := v1alpha1.ReasonCredentialRefused
	detail := "it refuses the Connector's credential; the Connector's owner must put a good one into its Secret"
	switch {
	case c.Spec.Auth == nil:
		detail = "it asks for a credential, and the Connector has none; the Connector's owner must write `auth`"
	case exchanged || status == http.StatusForbidden:
		reason = v1alpha1.ReasonRegistryDenied
		detail = "it takes the Connector's credential, but does not grant it this; its owner must grant the account the repository at the registry"
	}
	return &Error{Registry: c.Registry, Reason: reason, Detail: fmt.Sprintf("%s (status %d)", detail, status), Status: status}
}

// again reports whether a request that failed may be sent once more: it changes
// nothing, carries no body, and the connection, not the registry, let it down.
func again(r *http.Request, err error) bool {
	if !repeatable(r) || r.Context().Err() != nil || timeout(err) || errors.Is(err, egress.ErrForbidden) || errors.Is(err, context.Canceled) {
		return false
	}
	var connection *net.OpError
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return false
	}
	return errors.As(err, &connection) && connection.Op != "remote error" || // a TLS alert
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func repeatable(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && (r.Body == nil || r.Body == http.NoBody)
}
