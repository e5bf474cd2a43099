package forward

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/proxy/stream"
	"berth.dev/berth/proxy/upstream"
	"berth.dev/berth/secret"
)

// forward sends the request to the Connector's address and its answer to the client.
func (x *exchange) forward() {
	if r := x.request; r.Body != nil && r.Body != http.NoBody {
		x.body = stream.NewBody(r.Body, x.writer.Control, x.Patience)
		defer x.body.Finish()
		r.Body = x.body
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:        x.rewrite,
		Transport:      x,
		ModifyResponse: x.modify,
		ErrorHandler:   x.fail,
		BufferPool:     x.buffers,
		ErrorLog:       slog.NewLogLogger(x.Log.Handler(), slog.LevelDebug),
	}
	proxy.ServeHTTP(x.writer, x.request)
	if x.reason == ReasonAborted {
		x.reason = ""
	}
}

// rewrite makes the registry's request of the client's. Where it is to go is not said here: only upstream knows.
func (x *exchange) rewrite(r *httputil.ProxyRequest) {
	out := r.Out
	out.URL.Scheme, out.URL.Host, out.URL.User = "", "", nil
	if x.own {
		return
	}
	out.URL.Path, out.URL.RawPath = x.connector.Address.Path+x.endpoint.Path(), ""
	if x.endpoint.Begins() {
		out.URL.RawQuery = beginning(r.In.URL.RawQuery, x.mountSource())
	}
	if x.action == v1alpha1.ActionPull || x.action == v1alpha1.ActionDelete {
		out.Body, out.ContentLength = nil, 0
		out.Header.Del("Content-Type")
		out.Header.Del("Expect")
	}
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

// RoundTrip implements http.RoundTripper, for the one request of the exchange.
func (x *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	if x.own {
		return x.Upstream.Pass(x.connector, r)
	}
	return x.Upstream.RoundTrip(x.connector, r, x.scopes(r.URL)...)
}

// scopes are what the request needs of the registry's token service. A further host of the Connector has none.
func (x *exchange) scopes(sent *url.URL) []bearer.Scope {
	if x.connector.Extension != "" {
		return nil
	}
	repository := x.endpoint.Repository
	switch x.action {
	case v1alpha1.ActionPush:
		scopes := []bearer.Scope{bearer.Repository(repository, bearer.Pull, bearer.Push)}
		if from := sent.Query().Get("from"); x.endpoint.Begins() && from != "" && from != repository {
			scopes = append(scopes, bearer.Repository(from, bearer.Pull))
		}
		return scopes
	case v1alpha1.ActionDelete:
		return []bearer.Scope{bearer.Repository(repository, bearer.Delete)}
	default:
		return []bearer.Scope{bearer.Repository(repository, bearer.Pull)}
	}
}

// modify refuses answers that would lead the client astray: to another protocol, or to show its token to the registry.
func (x *exchange) modify(r *http.Response) error {
	x.upstreamStatus = r.StatusCode
	if r.StatusCode == http.StatusSwitchingProtocols || r.StatusCode == http.StatusProxyAuthRequired {
		return &upstream.Error{
			Registry: x.connector.Registry, Reason: v1alpha1.ReasonUnexpectedAnswer, Status: r.StatusCode,
			Detail: fmt.Sprintf("it answered with status %d, which nobody asked for", r.StatusCode),
		}
	}
	return nil
}

func (x *exchange) fail(_ http.ResponseWriter, r *http.Request, err error) {
	no := failed(err, x.connector)
	if x.body != nil && x.body.Broken() != nil || r.Context().Err() != nil {
		no.reason = ReasonClientGone
	}
	if far, ok := errors.AsType[*upstream.Error](err); ok {
		x.upstreamStatus = far.Status
	}
	x.refuse(no)
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
