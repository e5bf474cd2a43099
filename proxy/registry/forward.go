package registry

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
	"berth.dev/berth/proxy/upstream"
)

// catalogScope is what a token must be good for to list repositories.
const catalogScope bearer.Scope = "registry:catalog:*"

// forward sends the request to the registry and its answer to the client.
func (x *exchange) forward() {
	if hasBody(x.request) {
		x.body = newIncoming(x.request.Body, x.writer.control, x.Patience)
		defer x.body.finish()
		if x.request.ProtoMajor == 1 {
			x.writer.body = x.body
		}
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:        x.rewrite,
		Transport:      x,
		ModifyResponse: x.modify,
		ErrorHandler:   x.fail,
		BufferPool:     x.buffers,
		ErrorLog:       slog.NewLogLogger(x.Log.Handler(), slog.LevelWarn),
	}
	proxy.ServeHTTP(x.writer, x.request)
	if x.reason == ReasonAborted {
		x.reason = ""
	}
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

// rewrite makes the registry's request of the client's: another path, only
// known parameters, and a body only where the API knows one.
func (x *exchange) rewrite(r *httputil.ProxyRequest) {
	out := r.Out
	out.URL.Path, out.URL.RawPath = x.connector.Address.Path+x.target.UpstreamPath(), ""
	out.URL.RawQuery = query(x.target, r.In.URL.RawQuery, x.from)
	if x.target.Kind == KindAPI {
		apiURL(out.URL, x.connector, x.target.Reference)
	}
	if x.target.Kind == KindCatalog || x.target.Kind == KindAPI && isAccount(x.target.Reference) { // which are read here
		for _, name := range [...]string{"Accept-Encoding", "Range", "If-None-Match", "If-Modified-Since"} {
			out.Header.Del(name)
		}
	}
	if x.body != nil {
		out.Body = x.body
		return
	}
	out.Body, out.ContentLength = nil, 0
	out.Header.Del("Expect")
	if out.Method == http.MethodGet || out.Method == http.MethodHead {
		out.Header.Del("Content-Type")
	}
}

// RoundTrip implements http.RoundTripper, for the one request of the exchange.
func (x *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	return x.Upstream.RoundTrip(x.connector, r, x.scopes()...)
}

// scopes are what a token of the registry's must be good for. Registries differ
// in whether pushing and deleting mean that one may look, too.
func (x *exchange) scopes() []bearer.Scope {
	if x.target.Kind == KindCatalog {
		return []bearer.Scope{catalogScope}
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
		return x.redact(r)
	}
	if x.body != nil {
		if err := x.body.broken(); err != nil { // whatever the registry made of half a body
			return err
		}
	}
	if err := localise(r, x.connector, x.target); err != nil {
		return err
	}
	return x.filter(r)
}

func (x *exchange) fail(_ http.ResponseWriter, r *http.Request, err error) {
	no := failed(err, x.target)
	x.farFailed = true
	if r.Context().Err() != nil {
		no.reason, x.farFailed = ReasonClientGone, false
	}
	if x.body != nil {
		if broken := x.body.broken(); broken != nil {
			no, x.farFailed = unfinished(broken), false
		}
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
	return x.writer.status
}
