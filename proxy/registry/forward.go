package registry

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/proxy/stream"
	"berth.dev/berth/proxy/upstream"
)

// forward sends the request to the registry and its answer to the client.
func (x *exchange) forward() {
	if hasBody(x.request) {
		x.body = stream.NewBody(x.request.Body, x.writer.Control, x.Patience)
		defer x.body.Finish()
		if x.request.ProtoMajor == 1 {
			x.writer.Body = x.body
		}
	}
	response, err := x.Upstream.RoundTrip(x.connector, x.outgoing(), x.scopes()...)
	if err == nil {
		if err = x.modify(response); err != nil {
			_ = response.Body.Close() // what it was is no matter any more
		}
	}
	if err != nil {
		x.fail(err)
		return
	}
	x.answer(response)
}

// hasBody reports whether the request has a body that the API has a use for.
func hasBody(r *http.Request) bool {
	switch r.Method {
	case http.MethodPost, http.MethodPatch, http.MethodPut:
		return r.ContentLength != 0
	default:
		return false
	}
}

// outgoing makes the registry's request of the client's: another path, only
// known parameters, and a body only where the API knows one. What else of the
// client's header is none of the registry's business, package upstream knows.
func (x *exchange) outgoing() *http.Request {
	out := new(*x.request)
	out.URL = &url.URL{Path: x.connector.Address.Path + x.target.UpstreamPath(), RawQuery: query(x.target, x.request.URL.RawQuery, x.from)}
	if x.target.Kind == KindAPI {
		apiURL(out.URL, x.connector, x.target.Reference)
	}
	if x.target.Kind == KindCatalog || x.target.Kind == KindAPI && endpoint.IsAccount(x.target.Reference) { // which are read here
		out.Header = maps.Clone(out.Header)
		endpoint.Whole(out.Header)
	}
	if x.body != nil {
		out.Body = x.body
		return out
	}
	out.Body, out.ContentLength = nil, 0
	out.Header = without(out.Header, "Expect")
	if out.Method == http.MethodGet || out.Method == http.MethodHead {
		out.Header = without(out.Header, "Content-Type")
	}
	return out
}

// without returns a header that has none of the names, and leaves the one that is given as it is.
func without(h http.Header, names ...string) http.Header {
	copied := false
	for _, name := range names {
		if _, ok := h[name]; !ok {
			continue
		}
		if !copied {
			h, copied = maps.Clone(h), true
		}
		delete(h, name)
	}
	return h
}

// answer sends the registry's answer to the client, or breaks off the connection where it breaks off.
func (x *exchange) answer(r *http.Response) {
	if err := x.buffers.Answer(x.writer, r); err != nil {
		x.cause = err
		panic(http.ErrAbortHandler)
	}
	x.reason = ""
}

// scopes are what a token of the registry's must be good for. Registries differ
// in whether pushing and deleting mean that one may look, too.
func (x *exchange) scopes() []bearer.Scope {
	if x.target.Kind == KindCatalog {
		return []bearer.Scope{bearer.Catalog()}
	}
	switch x.action {
	case v1alpha1.ActionAPI:
		return nil // it takes the credential itself
	case v1alpha1.ActionPush:
		scopes := []bearer.Scope{bearer.Repository(x.target.Repository, bearer.Pull, bearer.Push)}
		if x.from != "" {
			scopes = append(scopes, bearer.Repository(x.from, bearer.Pull))
		}
		return scopes
	case v1alpha1.ActionDelete:
		return []bearer.Scope{bearer.Repository(x.target.Repository, bearer.Pull, bearer.Delete)}
	default:
		return []bearer.Scope{bearer.Repository(x.target.Repository, bearer.Pull)}
	}
}

// modify makes of the registry's answer the client's.
func (x *exchange) modify(r *http.Response) error {
	x.upstreamStatus = r.StatusCode
	if r.StatusCode == http.StatusSwitchingProtocols {
		return errors.New("the registry switched to another protocol, which nobody asked for")
	}
	for name := range r.Header {
		if strings.Contains(name, "Csrf") || strings.Contains(name, "Xsrf") {
			delete(r.Header, name) // it signs a session's requests
		}
	}
	if x.target.Kind == KindAPI {
		if err := localiseAPI(r, x.connector); err != nil {
			return err
		}
		return x.filter(r)
	}
	if x.body != nil {
		if err := x.body.Broken(); err != nil { // whatever the registry made of half a body
			return err
		}
	}
	if err := localise(r, x.connector, x.target); err != nil {
		return err
	}
	return x.filter(r)
}

// filter leaves, of what is not for every client, what is for this one: of a page
// of the catalogue the repositories that it may pull from (a page of which none
// is left still leads to the next), of the account what is no secret.
func (x *exchange) filter(r *http.Response) (err error) {
	switch {
	case x.target.Kind == KindCatalog:
		err = endpoint.FilterCatalog(r, func(repository string) bool {
			return x.connector.Check(x.caller.Caller, repository, v1alpha1.ActionPull) == nil
		})
	case x.target.Kind == KindAPI && endpoint.IsAccount(x.target.Reference):
		err = endpoint.RedactAccount(r)
	}
	if err != nil {
		return &upstream.Error{Registry: x.connector.Registry, Reason: v1alpha1.ReasonUnexpectedAnswer, Detail: err.Error(), Status: r.StatusCode}
	}
	return nil
}

// fail answers where there is no answer of the registry's that the client could have.
func (x *exchange) fail(err error) {
	no := failed(err, x.target)
	x.farFailed = true
	gone := x.request.Context().Err() != nil
	if gone {
		no.reason, x.farFailed = ReasonClientGone, false
	}
	if broken := x.body.Failure(gone); broken != nil {
		no, x.farFailed = unfinished(broken), false
	}
	if far, ok := errors.AsType[*upstream.Error](err); ok {
		x.upstreamStatus = far.Status
	}
	x.refuse(no)
}

// status is the answer's, for the log.
func (x *exchange) status() int {
	if x.reason == ReasonClientGone {
		return statusClientGone
	}
	return x.writer.Status
}
