package forward

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"berth.dev/berth/access"
	"berth.dev/berth/egress"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/route"
)

const (
	schemeHTTP  = "http"
	schemeHTTPS = "https"
)

// visitKey is under what a request's context holds its visit.
type visitKey struct{}

// visit is what a client asked the proxy itself for: a tunnel, or one request
// for a whole URL.
type visit struct {
	*Proxy
	request *http.Request
	begun   time.Time

	token  string
	user   string
	caller identity.Identity
	target egress.Target
	scheme string // of the requests to the target that could get a credential
	origin string // and where they go

	parent *egress.Parent // of a plain request; nil: it goes straight to the target

	leave func() // gives its place back
}

// admit finds out who asks for what, and refuses what cannot be.
func (v *visit) admit() *refusal {
	for _, door := range [...]func() *refusal{v.identify, v.locate, v.enter} {
		if no := door(); no != nil {
			return no
		}
	}
	return nil
}

// identify finds out who calls, and limits how often an address may fail at that.
func (v *visit) identify() *refusal {
	signed := http.Request{Header: http.Header{"Authorization": v.request.Header["Proxy-Authorization"]}}
	var ok bool
	v.user, v.token, ok = signed.BasicAuth()
	if !ok || v.token == "" {
		return unidentified(identity.ErrNoCredentials)
	}
	caller, err := v.Identity.Verify(v.token)
	if err == nil {
		err = v.Identity.Locate(v.request.Context(), caller, v.request.RemoteAddr)
	}
	if err == nil {
		v.caller = caller
		return nil
	}
	if refused, ok := errors.AsType[*identity.Refusal](err); ok {
		v.caller.Namespace = refused.Namespace // for the log, and to tell it
	}
	no := unidentified(err)
	if !v.failures.Allow(identity.Source(v.request), v.Now()) {
		return &refusal{
			status: http.StatusTooManyRequests, reason: ReasonTooManyFailures, cause: err, after: 1, last: true,
			message: "too many tokens from this address were no good; the last one too: " + no.message,
		}
	}
	return no
}

// locate finds out where the client wants to go.
func (v *visit) locate() *refusal {
	authority, port, u := v.request.RequestURI, "", v.request.URL
	v.scheme = schemeHTTPS
	if v.request.Method != http.MethodConnect {
		switch {
		case !u.IsAbs():
			return &refusal{status: http.StatusBadRequest, reason: ReasonTargetInvalid, message: "this is a proxy: name it in HTTP_PROXY and HTTPS_PROXY, and ask it for whole URLs"}
		case u.Scheme != schemeHTTP || u.User != nil || u.Opaque != "":
			return &refusal{status: http.StatusBadRequest, reason: ReasonTargetInvalid, message: "the proxy sends on requests for 'http://HOST/PATH' alone; for 'https' it makes tunnels (CONNECT)"}
		}
		authority, port, v.scheme = u.Host, "80", schemeHTTP
	}
	target, err := egress.ParseTarget(authority, port)
	if err != nil {
		return &refusal{status: http.StatusBadRequest, reason: ReasonTargetInvalid, cause: err, message: "the target must be 'HOST:PORT': " + err.Error()}
	}
	v.target, v.origin = target, access.Origin(v.scheme, target.Host, target.Port)
	return nil
}

// enter takes one of the places that there are for tunnels.
func (v *visit) enter() *refusal {
	if !v.places.take(v.caller.Namespace) {
		return &refusal{
			status: http.StatusServiceUnavailable, reason: ReasonTooManyTunnels, after: 1, last: true,
			message: "there are as many tunnels as may be, in all or from this namespace; close some, or try again",
		}
	}
	v.leave = sync.OnceFunc(func() { v.places.give(v.caller.Namespace) })
	return nil
}

// named are the Connectors that the user of the proxy's URL names, as the
// webhook writes them: 'NS/NAME,NAME', perhaps percent-encoded still. Any other
// user names none, and so does one name without a namespace where there is no
// Connector of it: then it is just a user.
func (v *visit) named() (names []route.Connector, ok bool) {
	list, err := url.PathUnescape(v.user)
	if err != nil {
		return nil, false
	}
	ok = strings.Contains(list, "/")
	for entry := range strings.SplitSeq(list, ",") {
		name, err := route.ParseName(strings.TrimSpace(entry), v.caller.Namespace)
		if err != nil {
			continue
		}
		_, known := v.Catalogue.Get(name)
		ok = ok || known
		names = append(names, name)
	}
	return names, ok
}

// log writes the one line of a visit that did not become a tunnel or request.
func (v *visit) log(status int, reason string, cause error) {
	v.metrics.other(kindRefused, status, 0, 0)
	v.metrics.refuse(nil, reason)
	line := v.line(v.Now(), "forward refused", v.request.Method)
	line.Number(keyStatus, int64(status))
	line.Text(keyReason, reason)
	line.Failure(keyError, cause)
	line.Write()
}

// unidentified is for an error of Identities.
func unidentified(err error) *refusal {
	no := &refusal{status: http.StatusProxyAuthRequired, reason: ReasonTokenRefused, message: err.Error(), cause: err, last: true}
	switch {
	case errors.Is(err, identity.ErrNoCredentials):
		no.reason, no.cause = ReasonNoToken, nil
		no.message = "no token: put a berth token into the URL of the proxy, as in HTTP_PROXY=http://berth:TOKEN@HOST:PORT"
	case errors.Is(err, identity.ErrNamespace):
		no.reason = ReasonNamespaceGone
	case errors.Is(err, identity.ErrRevoked):
		no.reason = ReasonTokenRevoked
	case errors.Is(err, identity.ErrSource):
		no.reason = ReasonSourceRefused
	}
	return no
}

// unopened is for an error of Egress.
func unopened(to egress.Target, err error) *refusal {
	no := &refusal{status: http.StatusBadGateway, reason: ReasonUnreachable, cause: err, last: true}
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	switch {
	case errors.Is(err, egress.ErrForbidden):
		no.status, no.reason = http.StatusForbidden, ReasonAddressForbidden
		no.message = fmt.Sprintf("'%s' leads to an address that Berth never dials, such as loopback, link-local, the API server's or its own", to.Host)
	case errors.Is(err, egress.ErrPolicy):
		no.status, no.reason = http.StatusForbidden, ReasonEgressRefused
		no.message = err.Error() + "; ask the administrator of Berth"
	case ok && timeout.Timeout():
		no.status = http.StatusGatewayTimeout
		no.message = fmt.Sprintf("'%s' did not answer in time", to.Host)
	case errors.Is(err, egress.ErrParent):
		no.reason = ReasonParentFailed
		no.message = fmt.Sprintf("the parent proxy, by which the way out goes, makes no connection to '%s'; its administrator knows why", to.Host)
	default:
		no.message = fmt.Sprintf("there is no connection to '%s' at port %s", to.Host, to.Port)
	}
	return no
}
