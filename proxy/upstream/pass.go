package upstream

import (
	"context"
	"net/http"

	"berth.dev/berth/access"
)

// Pass sends a request to the Connector's address as RoundTrip does, but with
// what the client signs in with itself, and with no credential of Berth's. So
// challenges and cookies, which are between the client and the registry, stay.
//
// The errors are *Error, *secret.Problem, and that of a request whose context ended.
func (u *Registries) Pass(c *access.Connector, r *http.Request) (*http.Response, error) {
	response, err := u.pass(c, r)
	if err != nil {
		return nil, err
	}
	for _, name := range [...]string{
		"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Connection", "Alt-Svc",
		"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	} {
		delete(response.Header, name)
	}
	return downward(response), nil
}

func (u *Registries) pass(c *access.Connector, r *http.Request) (*http.Response, error) {
	authorities, err := u.credentials.Authorities(r.Context(), c)
	if err != nil {
		return nil, err
	}
	transport, err := u.transports.of(c, authorities)
	if err != nil {
		return nil, err
	}
	response, err := transport.RoundTrip(unsigned(c, r))
	if err == nil {
		return response, nil
	}
	if ended := context.Cause(r.Context()); ended != nil {
		return nil, ended
	}
	reason, detail := explain(err)
	return nil, &Error{Registry: c.Registry, Reason: reason, Detail: detail, Err: err}
}

// unsigned is the client's request as the registry gets it, with what the client itself signs in with.
func unsigned(c *access.Connector, r *http.Request) *http.Request {
	out := r.WithContext(r.Context())
	to := *r.URL
	to.Scheme, to.Host, to.User, to.Fragment = c.Address.Scheme, c.Address.Host, nil, ""
	out.URL, out.Host, out.RequestURI = &to, c.Address.Host, ""
	out.Header = outbound(r.Header)
	for _, name := range [...]string{"Authorization", "Cookie"} {
		if values := r.Header[name]; len(values) > 0 && !nominated(r.Header)[name] {
			out.Header[name] = values
		}
	}
	out.Trailer, out.TransferEncoding, out.Close = nil, nil, false
	return out
}
