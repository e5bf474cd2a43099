// Package registry is the reverse proxy: a registry, to its clients, whose
// repositories are those of the registries behind Connectors.
//
//	GET /v2/namespaces/NS/connectors/NAME/<repository>/manifests/<reference>
//
// What a Connector's class opens of the server's own API is beside it:
//
//	GET /namespaces/NS/connectors/NAME/api/v2.0/projects
//
// A request comes through a row of doors, and the first that is shut answers
// with an OCI error envelope. Who calls? A berth token says so, as the password
// of Basic authentication or as a Bearer token. What is asked? A path of the OCI
// grammar, to the letter (see package endpoint), with a method that it knows there. Of which
// Connector? The path alone says; a Host that names another Connector is an
// error. May the caller? The Connector's access rules say, and the token: that of
// kubelet is for pulls alone. Only then does the registry hear of the request,
// and then with the Connector's credential and nothing of the client's (see
// package upstream).
//
// Bodies stream both ways through a buffer, whatever their size. A client's is
// not read before the registry wants it. Link and Location of the answer lead to
// Berth instead of the registry; a redirect to object storage goes to the
// client, who follows it without any credential.
//
// A registry that fails is 502, or 504 where it did not answer in time, with the
// reason in the envelope. So is one that refuses the Connector's credential: 401
// would tell the client that its token is wrong, which it is not.
//
// Every request is one line in the log.
package registry

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
	"berth.dev/berth/proxy/accesslog"
	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/proxy/stream"
	"berth.dev/berth/route"
	"berth.dev/berth/token"
)

const (
	versionHeader = "Docker-Distribution-Api-Version"
	version       = "registry/2.0"
	// defaultPatience is how long a client may take no byte of an answer.
	defaultPatience = 2 * time.Minute
)

// Authenticator says who sent a request. *identity.Authenticator is one.
type Authenticator interface {
	// Authenticate returns an error of package identity for a request that it does not know the sender of.
	Authenticate(r *http.Request) (identity.Identity, error)
}

// Upstream sends requests to the registries of Connectors. *upstream.Registries is one.
type Upstream interface {
	// RoundTrip sends a request to the path and query of its URL, with a token of those scopes where the registry
	// has a token service; its errors are those of package upstream.
	RoundTrip(c *access.Connector, r *http.Request, scopes ...bearer.Scope) (*http.Response, error)
}

// Events tells namespaces why their requests failed. *event.Teller is one.
type Events interface {
	// Event must not wait. The message is for people, and holds no token, query or credential.
	Event(namespace, reason, message string)
}

// Options are what the proxy is made of. The first six must be set.
type Options struct {
	// Catalogue holds the Connectors.
	Catalogue *access.Catalogue
	// Identity says who calls.
	Identity Authenticator
	// Upstream leads to the registries.
	Upstream Upstream
	// ClusterDomain is the DNS suffix of Services, such as 'cluster.local'.
	ClusterDomain string
	// Access is the access log.
	Access accesslog.Log
	// Now is the clock.
	Now func() time.Time
	// Patience is how long a client may stand still, taking its answer or sending its body; 0 is two minutes.
	Patience time.Duration
	// Metrics is where to register metrics; nil is nowhere.
	Metrics prometheus.Registerer
	// Events tells callers why their requests failed; nil tells nobody.
	Events Events
	// MostInFlight and MostOfNamespace bound the requests that have no whole answer yet, of all callers and of one
	// namespace; 0 is 4096 and 1000.
	MostInFlight, MostOfNamespace int
}

// New returns the handler of everything below /v2/ and /namespaces/, and of /v2 itself.
func New(o Options) http.Handler {
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	return &handler{
		Options:  o,
		failures: identity.NewFailures(),
		flights: &flights{
			most: cmp.Or(o.MostInFlight, mostInFlight), mostOfNamespace: cmp.Or(o.MostOfNamespace, mostOfNamespace), byNamespace: map[string]int{},
		},
		metrics: newMetrics(o.Metrics),
		buffers: stream.NewBuffers(),
	}
}

type handler struct {
	Options
	failures *identity.Failures
	flights  *flights
	metrics  *metrics
	buffers  *stream.Buffers
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{handler: h, request: r, writer: stream.NewResponse(w, r, h.Patience), begun: h.Now(), reason: ReasonAborted}
	h.metrics.inFlight.Inc()
	defer x.end()
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

// end is the end of an exchange, however it came.
func (x *exchange) end() {
	now := x.Now()
	if x.entered {
		x.flights.leave(x.caller.Namespace)
	}
	x.metrics.inFlight.Dec()
	x.metrics.count(x, now.Sub(x.begun).Seconds())
	x.log(now)
}

// exchange is one request and its answer.
type exchange struct {
	*handler
	request *http.Request
	writer  *stream.Response
	begun   time.Time

	caller    identity.Identity
	target    Target
	action    v1alpha1.Action
	connector *access.Connector // nil: the request is for /v2/ itself
	from      string            // the repository that a blob is taken over from
	body      *stream.Body      // nil: the request has none

	entered        bool // it counts among the flights
	farFailed      bool // the registry gave no answer that the client could have
	upstreamStatus int
	reason         string
	cause          error
}

// admit leads the request through the doors.
func (x *exchange) admit() *refusal {
	for _, door := range [...]func() *refusal{x.protocol, x.identify, x.enter, x.locate, x.meet, x.permit, x.authorise} {
		if no := door(); no != nil {
			return no
		}
	}
	return nil
}

// protocol refuses what is not a plain request for the API.
func (x *exchange) protocol() *refusal {
	r := x.request
	if r.Header.Get("Upgrade") != "" || r.Method == http.MethodConnect {
		return &refusal{status: http.StatusBadRequest, code: CodeUnsupported, reason: ReasonUnsupported, message: "this server speaks HTTP and switches to no other protocol"}
	}
	path := r.URL.EscapedPath()
	if path != "/v2" && !strings.HasPrefix(path, endpoint.Prefix) && !strings.HasPrefix(path, serverPrefix) {
		return misdirected(fmt.Errorf("%w: paths start with '%s' or '%s'", endpoint.ErrNone, endpoint.Prefix, serverPrefix))
	}
	return nil
}

// identify finds out who calls, and limits how often an address may fail at that.
func (x *exchange) identify() *refusal {
	caller, err := x.Identity.Authenticate(x.request)
	if err == nil {
		x.caller = caller
		return nil
	}
	no := unauthorized(err)
	if no.status == http.StatusUnauthorized && no.reason != ReasonNoToken && !x.failures.Allow(identity.Source(x.request), x.Now()) {
		return &refusal{
			status: http.StatusTooManyRequests, code: CodeTooManyRequests, reason: ReasonTooManyFailures, cause: err, after: retryAfter,
			message: "too many tokens from this address were no good; the last one too: " + no.message,
		}
	}
	return no
}

// enter bounds how many requests there are at one time.
func (x *exchange) enter() *refusal {
	if x.entered = x.flights.enter(x.caller.Namespace); x.entered {
		return nil
	}
	return &refusal{
		status: http.StatusTooManyRequests, code: CodeTooManyRequests, reason: ReasonTooManyRequests, after: retryAfter,
		message: fmt.Sprintf("too many requests of namespace '%s', or of all, have no answer yet; try again later", x.caller.Namespace),
	}
}

// locate finds out what is asked.
func (x *exchange) locate() *refusal {
	path, method := x.request.URL.EscapedPath(), x.request.Method
	if path == "/v2" || path == endpoint.Prefix {
		if method != http.MethodGet && method != http.MethodHead {
			return unsupported(method, "GET, HEAD")
		}
		return nil
	}
	if path == endpoint.CatalogPath {
		return &refusal{
			status: http.StatusNotFound, code: CodeNameUnknown, reason: ReasonPathInvalid,
			message: "Berth lists the repositories of one Connector at a time: ask '/v2/namespaces/NAMESPACE/connectors/NAME/_catalog'",
		}
	}
	parse := ParsePath
	if strings.HasPrefix(path, serverPrefix) {
		parse = parseAPI
	}
	target, err := parse(path)
	if err != nil {
		return misdirected(err)
	}
	action, ok := target.Action(method)
	if !ok {
		return unsupported(method, target.Methods())
	}
	x.target, x.action = target, action
	return nil
}

// meet finds the Connector.
func (x *exchange) meet() *refusal {
	target := x.target
	if target.Kind == "" {
		return nil
	}
	if named, ok := x.named(); ok && named != target.Connector {
		return &refusal{
			status: http.StatusNotFound, code: CodeNameUnknown, reason: ReasonHostMismatch,
			message: fmt.Sprintf("the host is that of Connector '%s', and the path that of Connector '%s'; use the same in both", named, target.Connector),
		}
	}
	connector, ok := x.Catalogue.Get(target.Connector)
	if !ok {
		return &refusal{
			status: http.StatusNotFound, code: CodeNameUnknown, reason: ReasonConnectorUnknown,
			message: fmt.Sprintf("there is no Connector '%s' in namespace '%s'", target.Connector.Name, target.Connector.Namespace),
		}
	}
	x.connector = connector
	return nil
}

// named returns the Connector whose host the request is for, if it is one's.
func (x *exchange) named() (route.Connector, bool) {
	host := strings.ToLower(x.request.Host)
	if at := strings.LastIndexByte(host, ':'); at >= 0 {
		host = host[:at]
	}
	host = strings.TrimSuffix(host, ".")
	if strings.HasSuffix(host, ".svc") {
		host += "." + x.ClusterDomain
	}
	if !strings.HasSuffix(host, x.ClusterDomain) { // containerd names the address that it dials
		return route.Connector{}, false
	}
	named, err := route.ParseHost(host, x.ClusterDomain)
	return named, err == nil
}

// permit holds a token to what it is for.
func (x *exchange) permit() *refusal {
	if x.connector == nil || x.action == v1alpha1.ActionPull || x.caller.Audience != token.AudiencePull {
		return nil
	}
	return &refusal{
		status: http.StatusForbidden, code: CodeDenied, reason: ReasonTokenForPulls,
		message: fmt.Sprintf("this token, from Secret '%s', is for pulls alone, and may not %s; use the one in Secret '%s' of the same namespace", v1alpha1.PullSecret, x.action, v1alpha1.ProxySecret),
	}
}

// authorise asks the Connector's rules.
func (x *exchange) authorise() *refusal {
	if x.connector == nil {
		return nil
	}
	if x.target.Kind == KindCatalog {
		if !x.connector.Visible(x.caller.Caller) {
			return denied(access.ErrNamespace, x.caller.Caller, x.target, x.action)
		}
		return nil // each name is asked about: see filter
	}
	if err := x.connector.Check(x.caller.Caller, x.target.Repository, x.action); err != nil {
		return denied(err, x.caller.Caller, x.target, x.action)
	}
	if x.target.Kind == KindAPI {
		return x.openAPI()
	}
	if x.target.Begins() {
		x.from = mountSource(x.request.URL.RawQuery, x.connector, x.caller.Caller)
	}
	return nil
}

// refuse answers with an error, and tells a caller that is known why: a runtime
// that asks by HEAD sees no more than the status.
func (x *exchange) refuse(no *refusal) {
	x.reason, x.cause = no.reason, no.cause
	no.write(x.writer, x.request.Method)
	if x.Events == nil || x.caller.Namespace == "" {
		return
	}
	switch no.status {
	case http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout:
		if no.reason != ReasonClientGone {
			x.Events.Event(x.caller.Namespace, no.reason, no.message)
		}
	}
}

// greet answers a request for /v2/ itself: this is a registry, and the token is good.
func (x *exchange) greet() {
	x.reason = ""
	x.writer.Header().Set(versionHeader, version)
	x.writer.Header().Set("Content-Type", "application/json; charset=utf-8")
	x.writer.Header().Set("Content-Length", "2")
	x.writer.WriteHeader(http.StatusOK)
	if x.request.Method != http.MethodHead {
		_, _ = x.writer.Write([]byte("{}")) // a client that is gone needs no answer
	}
}
