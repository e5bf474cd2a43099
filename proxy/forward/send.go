package forward

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/proxy/stream"
	"berth.dev/berth/proxy/upstream"
	"berth.dev/berth/secret"
)

// catalogScope is what a token must be good for to list repositories.
const catalogScope bearer.Scope = "registry:catalog:*"

// forward sends the request to the Connector's address and its answer to the client.
func (x *exchange) forward() {
	if hasBody(x.request) {
		x.body = stream.NewBody(x.request.Body, x.writer.Control, x.Patience)
		defer x.body.Finish()
		if x.request.ProtoMajor == 1 {
			x.writer.Body = x.body
		}
	}
	response, err := x.send(x.outgoing())
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

// answer sends the registry's answer to the client, or breaks off the connection where it breaks off.
func (x *exchange) answer(r *http.Response) {
	if err := x.buffers.Answer(x.writer, r); err != nil {
		x.cause = err
		panic(http.ErrAbortHandler)
	}
	x.reason = ""
}

// hasBody reports whether the request has a body that an API has a use for.
func hasBody(r *http.Request) bool {
	switch r.Method {
	case http.MethodPost, http.MethodPatch, http.MethodPut:
		return r.ContentLength != 0
	default:
		return false
	}
}

// outgoing makes the registry's request of the client's. Where it is to go is not said here: only upstream knows,
// as it knows which headers are none of the registry's business.
func (x *exchange) outgoing() *http.Request {
	out := new(*x.request)
	out.URL = new(*x.request.URL)
	switch {
	case x.own || x.api != "": // the path was looked at, and is the server's own to read
	case x.catalog:
		out.URL.Path, out.URL.RawPath = x.connector.Address.Path+endpoint.CatalogPath, ""
	default:
		out.URL.Path, out.URL.RawPath = x.connector.Address.Path+x.endpoint.Path(), ""
	}
	if x.endpoint.Begins() {
		x.from = x.mountSource()
		out.URL.RawQuery = beginning(x.request.URL.RawQuery, x.from)
	}
	if x.catalog || endpoint.IsAccount(x.api) {
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

// without returns a header without a name, and leaves the one that is given as it is.
func without(h http.Header, name string) http.Header {
	if _, ok := h[name]; !ok {
		return h
	}
	h = maps.Clone(h)
	delete(h, name)
	return h
}

// mountSource returns the repository that a new upload may take a blob over
// from, or nothing: without it, an ordinary upload begins.
func (x *exchange) mountSource() string {
	all, err := url.ParseQuery(x.request.URL.RawQuery)
	if err != nil || len(all["mount"]) != 1 || len(all["from"]) != 1 || !endpoint.IsDigest(all.Get("mount")) || !endpoint.IsRepository(all.Get("from")) {
		return ""
	}
	if x.connector.Check(x.caller.Caller, all.Get("from"), v1alpha1.ActionPull) != nil {
		return ""
	}
	return all.Get("from")
}

// beginning returns what the registry gets of the query of a new upload.
func beginning(raw, from string) string {
	all, _ := url.ParseQuery(raw) // what does not parse is left out
	kept := url.Values{}
	for _, name := range [...]string{"digest", "digest-algorithm"} {
		if all.Has(name) {
			kept.Set(name, all.Get(name))
		}
	}
	if from != "" {
		kept.Set("mount", all.Get("mount"))
		kept.Set("from", from)
	}
	return kept.Encode()
}

// send sends the request as the client signs in, or with what Berth has.
func (x *exchange) send(r *http.Request) (*http.Response, error) {
	if x.own {
		return x.Upstream.Pass(x.connector, r)
	}
	return x.Upstream.RoundTrip(x.connector, r, x.scopes()...)
}

// scopes are what the request needs of the registry's token service. A further host of the Connector has none.
func (x *exchange) scopes() []bearer.Scope {
	repository := x.endpoint.Repository
	switch {
	case x.connector.Extension != "" || x.api != "":
		return nil
	case x.catalog:
		return []bearer.Scope{catalogScope}
	case x.action == v1alpha1.ActionPush:
		scopes := []bearer.Scope{bearer.Repository(repository, bearer.Pull, bearer.Push)}
		if x.from != "" {
			scopes = append(scopes, bearer.Repository(x.from, bearer.Pull))
		}
		return scopes
	case x.action == v1alpha1.ActionDelete:
		return []bearer.Scope{bearer.Repository(repository, bearer.Pull, bearer.Delete)}
	default:
		return []bearer.Scope{bearer.Repository(repository, bearer.Pull)}
	}
}

// modify refuses answers that would lead the client astray, to another protocol or to show its token to the
// registry, and takes out of others what is not for it.
func (x *exchange) modify(r *http.Response) error {
	x.upstreamStatus = r.StatusCode
	if r.StatusCode == http.StatusSwitchingProtocols || r.StatusCode == http.StatusProxyAuthRequired {
		return &upstream.Error{
			Registry: x.connector.Registry, Reason: v1alpha1.ReasonUnexpectedAnswer, Status: r.StatusCode,
			Detail: fmt.Sprintf("it answered with status %d, which nobody asked for", r.StatusCode),
		}
	}
	if x.own {
		return nil
	}
	for name := range r.Header {
		if strings.Contains(name, "Csrf") || strings.Contains(name, "Xsrf") {
			delete(r.Header, name) // it signs a session's requests
		}
	}
	if x.body != nil {
		if err := x.body.Broken(); err != nil { // whatever the registry made of half a body
			return err
		}
	}
	if err := x.redact(r); err != nil {
		return &upstream.Error{Registry: x.connector.Registry, Reason: v1alpha1.ReasonUnexpectedAnswer, Detail: err.Error(), Status: r.StatusCode}
	}
	return nil
}

func (x *exchange) redact(r *http.Response) error {
	switch {
	case x.catalog:
		return endpoint.FilterCatalog(r, func(name string) bool { return x.connector.Check(x.caller.Caller, name, v1alpha1.ActionPull) == nil })
	case endpoint.IsAccount(x.api):
		return endpoint.RedactAccount(r)
	}
	return nil
}

// fail answers where there is no answer of the registry's that the client could have.
func (x *exchange) fail(err error) {
	no := failed(err, x.connector)
	gone := x.request.Context().Err() != nil
	if gone {
		no.reason = ReasonClientGone
	}
	if broken := x.body.Failure(gone); broken != nil {
		no = unfinished(broken)
	}
	if far, ok := errors.AsType[*upstream.Error](err); ok {
		x.upstreamStatus = far.Status
	}
	x.refuse(no)
}

// unfinished is for a request whose body did not come whole.
func unfinished(err error) *refusal {
	no := &refusal{status: http.StatusBadRequest, code: codeUnknown, reason: ReasonClientGone, cause: err, message: "the body of the request did not come whole"}
	if stream.Stalled(err) {
		no.status, no.reason, no.last = http.StatusRequestTimeout, ReasonAborted, true
	}
	return no
}

// failed is for an error on the way to the registry, or in its answer.
func failed(err error, c *access.Connector) *refusal {
	no := &refusal{status: http.StatusBadGateway, code: codeUnknown, cause: err}
	if problem, ok := errors.AsType[*secret.Problem](err); ok {
		// The detail speaks to the Connector's owner, of a Secret that is not the caller's to know.
		no.reason = problem.Reason
		no.message = fmt.Sprintf("Connector '%s' cannot sign in to its registry (%s); its owner finds what to do by: kubectl -n %s describe connector %s",
			c, problem.Reason, c.Namespace, c.Name)
		return no
	}
	if far, ok := errors.AsType[*upstream.Error](err); ok {
		no.reason = far.Reason
		no.message = fmt.Sprintf("Connector '%s': %s", c, far.Error())
		if far.Timeout() {
			no.status = http.StatusGatewayTimeout
		}
		return no
	}
	no.reason = ReasonInternal
	no.message = fmt.Sprintf("Connector '%s': the request to its registry failed; the log of berth proxy says why", c)
	return no
}
