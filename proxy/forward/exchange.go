package forward

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/egress"
	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/proxy/stream"
)

const (
	versionHeader = "Docker-Distribution-Api-Version"
	version       = "registry/2.0"
)

// exchange is one request to the host of a Connector, and its answer.
type exchange struct {
	*Proxy

	visit   *visit
	request *http.Request
	writer  *stream.Response
	body    *stream.Body
	begun   time.Time

	caller     identity.Identity // as it is now
	inside     bool              // it has a place among the flights
	candidates []candidate
	own        bool              // the client signs in by itself
	connector  *access.Connector // nil: the request is for /v2/ itself
	endpoint   endpoint.Endpoint
	action     v1alpha1.Action
	catalog    bool   // it asks for the registry's list of repositories
	api        string // or for this path of the server's own API, below the Connector's address
	from       string // the repository that a blob is taken over from

	upstreamStatus int
	reason         string
	cause          error
}

func newExchange(v *visit, w http.ResponseWriter, r *http.Request) *exchange {
	return &exchange{Proxy: v.Proxy, visit: v, request: r, writer: stream.NewResponse(w, r, v.Patience), begun: v.Now(), reason: ReasonAborted}
}

func (x *exchange) serve() {
	defer func() {
		if x.inside {
			x.flights.give(x.caller.Namespace)
		}
		x.metrics.count(x)
		x.log(x.Now())
	}()
	no := x.admit()
	switch {
	case no != nil:
		x.refuse(no)
	case x.connector == nil:
		x.greet()
	default:
		x.forward()
	}
}

// admit leads the request through the doors.
func (x *exchange) admit() *refusal {
	for _, door := range [...]func() *refusal{x.protocol, x.stay, x.identify, x.enter, x.meet, x.authorise} {
		if no := door(); no != nil {
			return no
		}
	}
	return nil
}

// protocol refuses what is not a plain request.
func (x *exchange) protocol() *refusal {
	if r := x.request; len(r.Header["Upgrade"]) > 0 || len(r.Header["Http2-Settings"]) > 0 || r.Method == http.MethodConnect {
		return &refusal{status: http.StatusBadRequest, code: codeUnsupported, reason: ReasonUnsupported, last: true, message: "toward a Connector Berth speaks HTTP and switches to no other protocol"}
	}
	return nil
}

// stay refuses a request for another host than the one that the client asked the
// proxy for: only that one may have the credential.
func (x *exchange) stay() *refusal {
	port := "443"
	if x.visit.scheme == schemeHTTP {
		port = "80"
	}
	u := x.request.URL
	named, err := egress.ParseTarget(x.request.Host, port)
	if err == nil && named == x.visit.target && u.User == nil && (u.Scheme == "" || u.Scheme == x.visit.scheme) {
		return nil
	}
	return &refusal{
		status: http.StatusMisdirectedRequest, code: codeUnsupported, reason: ReasonHostMismatch, cause: err, last: true,
		message: fmt.Sprintf("this connection leads to '%s' at port %s, and the request is for another host; make a tunnel to that one", x.visit.target.Host, x.visit.target.Port),
	}
}

// identify looks whether the token is still good, and still that of who asked for the tunnel.
func (x *exchange) identify() *refusal {
	caller, err := x.Identity.Verify(x.visit.token)
	if err == nil && caller.UID != x.visit.caller.UID {
		err = identity.ErrNamespace
	}
	if err == nil {
		x.caller = caller
		return nil
	}
	no := unidentified(err)
	no.status, no.code = http.StatusForbidden, codeDenied
	return no
}

// enter bounds how many requests there are at one time: with HTTP/2 a tunnel has many.
func (x *exchange) enter() *refusal {
	if x.inside = x.flights.take(x.caller.Namespace); !x.inside {
		return &refusal{
			status: http.StatusTooManyRequests, code: codeTooManyRequests, reason: ReasonTooManyRequests, after: 1,
			message: fmt.Sprintf("too many requests of namespace '%s', or of all, have no answer yet; try again later", x.caller.Namespace),
		}
	}
	return nil
}

// meet finds the Connectors as they are now.
func (x *exchange) meet() *refusal {
	x.candidates = x.visit.usable(x.caller.Caller)
	if len(x.candidates) > 0 {
		return nil
	}
	return &refusal{
		status: http.StatusForbidden, code: codeDenied, reason: ReasonNamespaceRefused, last: true,
		message: fmt.Sprintf("namespace '%s' may no longer use a Connector for '%s'; a new connection goes there without one", x.visit.caller.Namespace, x.visit.target.Host),
	}
}

// authorise finds the Connector that grants the request.
func (x *exchange) authorise() *refusal {
	if len(x.request.Header["Authorization"]) > 0 {
		x.own, x.connector = true, x.candidates[0].Connector
		return nil
	}
	var best granted
	var refused *refusal
	for _, c := range x.candidates {
		path, ok := strings.CutPrefix(x.request.URL.EscapedPath(), c.Address.EscapedPath())
		if !ok {
			continue
		}
		if no, taken := x.general(c, path); taken {
			return no
		}
		e, err := endpoint.Parse(path)
		if err != nil {
			if refused = x.open(c, path); refused == nil {
				return nil
			}
			continue
		}
		specific, no := x.match(c, e)
		if no != nil {
			refused = no
			continue
		}
		if next := (granted{c, specific}); best.Connector == nil || next.before(best) {
			best, x.endpoint = next, e
		}
	}
	if best.Connector == nil {
		if refused == nil {
			refused = x.unknown()
		}
		return refused
	}
	x.connector = best.Connector
	x.action, _ = x.endpoint.Action(x.request.Method)
	return nil
}

// general takes a request that is about no repository: for /v2/ itself, or for the list of all.
func (x *exchange) general(c candidate, path string) (no *refusal, taken bool) {
	switch {
	case path == "/v2", path == endpoint.Prefix:
		return x.ping(), true
	case path == endpoint.CatalogPath && x.request.Method == http.MethodGet:
		x.connector, x.catalog, x.action = c.Connector, true, v1alpha1.ActionPull
		return nil, true // each name is asked about: see redact
	}
	return nil, false
}

// match asks a Connector's rules about an endpoint.
func (x *exchange) match(c candidate, e endpoint.Endpoint) (specific int, no *refusal) {
	action, ok := e.Action(x.request.Method)
	if !ok {
		return 0, &refusal{status: http.StatusMethodNotAllowed, code: codeUnsupported, reason: ReasonUnsupported, message: fmt.Sprintf("the API knows no method '%s' there", x.request.Method)}
	}
	specific, err := c.Match(x.caller.Caller, e.Repository, action)
	if err != nil {
		x.endpoint, x.action = e, action // for the log
		return 0, denied(err, c.Connector, x.caller.Caller, e, action)
	}
	return specific, nil
}

// open asks a Connector's rules and class about a path of the server's own API, and takes it where they grant it.
func (x *exchange) open(c candidate, path string) *refusal {
	err := x.Catalogue.Class(c.Spec.ConnectorClassName).Check(x.request.Method, path)
	switch {
	case errors.Is(err, access.ErrAPIPath), errors.Is(err, access.ErrAPICredentials):
		return x.unknown()
	case err != nil:
		return &refusal{
			status: http.StatusForbidden, code: codeDenied, reason: ReasonAPIClosed,
			message: fmt.Sprintf("%s of that path: %s; ConnectorClass '%s' lists in `spec.api` what it opens", x.request.Method, err, c.Spec.ConnectorClassName),
		}
	}
	if err := c.Check(x.caller.Caller, "", v1alpha1.ActionAPI); err != nil {
		return denied(err, c.Connector, x.caller.Caller, endpoint.Endpoint{}, v1alpha1.ActionAPI)
	}
	x.connector, x.api, x.action = c.Connector, path, v1alpha1.ActionAPI
	return nil
}

// ping is for /v2/ itself, which clients ask first: Berth answers it, so that they do not sign in.
func (x *exchange) ping() *refusal {
	if x.request.Method == http.MethodGet || x.request.Method == http.MethodHead {
		return nil
	}
	return &refusal{status: http.StatusMethodNotAllowed, code: codeUnsupported, reason: ReasonUnsupported, message: fmt.Sprintf("the API knows no method '%s' there", x.request.Method)}
}

// greet answers a request for /v2/ itself.
func (x *exchange) greet() {
	x.reason = ""
	h := x.writer.Header()
	h.Set(versionHeader, version)
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", "2")
	x.writer.WriteHeader(http.StatusOK)
	if x.request.Method != http.MethodHead {
		_, _ = x.writer.Write([]byte("{}")) // a client that is gone needs no answer
	}
}

// refuse answers with an error.
func (x *exchange) refuse(no *refusal) {
	x.reason, x.cause = no.reason, no.cause
	x.metrics.refuse(x.connector, no.reason)
	x.tell(x.visit.caller.Namespace, no)
	no.writeEnvelope(x.writer, x.request.Method)
}

// unknown is for a path that is of no API that Berth opens.
func (x *exchange) unknown() *refusal {
	path := x.request.URL.Path
	if strings.HasSuffix(path, "/token") || strings.HasSuffix(path, "/auth") {
		return &refusal{
			status: http.StatusForbidden, code: codeDenied, reason: ReasonTokenService,
			message: "tokens of the registry are not handed out; the registry's API needs none here, since Berth signs in itself",
		}
	}
	return &refusal{
		status: http.StatusForbidden, code: codeDenied, reason: ReasonPathInvalid,
		message: "without a login of your own, only the OCI distribution API, spelt as its specification does, and what the Connector's class opens can be used there",
	}
}

// denied is for an error of access.Rules.
func denied(err error, c *access.Connector, caller access.Caller, e endpoint.Endpoint, action v1alpha1.Action) *refusal {
	no := &refusal{status: http.StatusForbidden, code: codeDenied}
	const ask = "ask the Connector's owner for a rule in `spec.access`"
	switch {
	case errors.Is(err, access.ErrNamespace):
		no.reason = ReasonNamespaceRefused
		no.message = fmt.Sprintf("namespace '%s' may not use Connector '%s': no rule lists it; %s", caller.Namespace, c, ask)
	case errors.Is(err, access.ErrRepository):
		no.reason = ReasonRepositoryRefused
		no.message = fmt.Sprintf("namespace '%s' may not use repository '%s' of Connector '%s': no rule grants it that one; %s", caller.Namespace, e.Repository, c, ask)
	default:
		no.reason = ReasonActionRefused
		no.message = fmt.Sprintf("namespace '%s' may not %s '%s' through Connector '%s': no rule grants it that action; %s", caller.Namespace, action, e.Repository, c, ask)
	}
	return no
}
