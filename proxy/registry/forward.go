package registry

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"

	"berth.dev/berth/bearer"
	"berth.dev/berth/proxy/upstream"
)

// forward sends the request to the registry and its answer to the client.
func (x *exchange) forward() {
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

// rewrite makes the registry's request of the client's: another path, only
// known parameters, and no body, for a GET has none.
func (x *exchange) rewrite(r *httputil.ProxyRequest) {
	out := r.Out
	out.URL.Path, out.URL.RawPath = x.connector.Address.Path+x.target.UpstreamPath(), ""
	out.URL.RawQuery = query(x.target.Kind, r.In.URL.RawQuery)
	out.Body, out.ContentLength = nil, 0
	out.Header.Del("Content-Type")
	out.Header.Del("Expect")
}

// RoundTrip implements http.RoundTripper, for the one request of the exchange.
func (x *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	return x.Upstream.RoundTrip(x.connector, r, bearer.Repository(x.target.Repository, bearer.Pull))
}

func (x *exchange) modify(r *http.Response) error {
	x.upstreamStatus = r.StatusCode
	if r.StatusCode == http.StatusSwitchingProtocols {
		return errors.New("the registry switched to another protocol, which nobody asked for")
	}
	return localise(r, x.connector, x.target)
}

func (x *exchange) fail(_ http.ResponseWriter, r *http.Request, err error) {
	no := failed(err, x.target)
	if r.Context().Err() != nil {
		no.reason = ReasonClientGone
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
