package forward

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// The reasons of refusals, in the access log. Those of upstream failures are the reasons of v1alpha1.
const (
	// ReasonNoToken: the client showed no token; some ask like that first.
	ReasonNoToken = "NoToken"
	// ReasonTokenRefused: the client's token is no good.
	ReasonTokenRefused = "TokenRefused"
	// ReasonNamespaceGone: the token's namespace was deleted.
	ReasonNamespaceGone = "NamespaceGone"
	// ReasonTokenRevoked: the tokens of the namespace were revoked since it was made.
	ReasonTokenRevoked = "TokenRevoked"
	// ReasonSourceRefused: the token was shown from an address that is no Pod's of its namespace.
	ReasonSourceRefused = "SourceRefused"
	// ReasonTooManyFailures: the client's address showed too many tokens that are no good.
	ReasonTooManyFailures = "TooManyFailures"
	// ReasonTargetInvalid: what the client asked the proxy for is not a host and a port.
	ReasonTargetInvalid = "TargetInvalid"
	// ReasonTooManyTunnels: there are as many tunnels as may be.
	ReasonTooManyTunnels = "TooManyTunnels"
	// ReasonEnding: the proxy ends, and makes no tunnels any more.
	ReasonEnding = "Ending"
	// ReasonTooManyRequests: as many requests as may be have no answer yet.
	ReasonTooManyRequests = "TooManyRequests"
	// ReasonAuthorityPending: the Connector's certificate authority is not there yet.
	ReasonAuthorityPending = "AuthorityPending"
	// ReasonAddressForbidden: the host leads to an address that Berth never dials.
	ReasonAddressForbidden = "AddressForbidden"
	// ReasonEgressRefused: the administrator's policy does not let the namespace go there.
	ReasonEgressRefused = "EgressRefused"
	// ReasonUnreachable: there is no connection to the host.
	ReasonUnreachable = "Unreachable"
	// ReasonParentFailed: the parent proxy makes no connection to the host.
	ReasonParentFailed = "ParentFailed"
	// ReasonHostMismatch: a request within a tunnel, or its TLS handshake, names another host than the tunnel's.
	ReasonHostMismatch = "HostMismatch"
	// ReasonPathInvalid: the path is not one of the API.
	ReasonPathInvalid = "PathInvalid"
	// ReasonAPIClosed: the Connector's class does not open the path of the server's own API.
	ReasonAPIClosed = "APIClosed"
	// ReasonTokenService: the client asked the registry for a token without a login of its own.
	ReasonTokenService = "TokenService"
	// ReasonUnsupported: the method is not one that the API knows there, or the client asked for another protocol.
	ReasonUnsupported = "Unsupported"
	// ReasonNamespaceRefused: no Connector's rules list the namespace any more.
	ReasonNamespaceRefused = "NamespaceRefused"
	// ReasonRepositoryRefused: they list it, but not for the repository.
	ReasonRepositoryRefused = "RepositoryRefused"
	// ReasonActionRefused: they list it for the repository, but not for the action.
	ReasonActionRefused = "ActionRefused"
	// ReasonSilent: nothing went through a tunnel for too long.
	ReasonSilent = "Silent"
	// ReasonClientGone: the client went before it had its answer.
	ReasonClientGone = "ClientGone"
	// ReasonAborted: the answer or tunnel ended early, at either end.
	ReasonAborted = "Aborted"
	// ReasonInternal: Berth itself failed.
	ReasonInternal = "Internal"
)

// The codes of OCI error envelopes that Berth answers with here.
const (
	codeDenied      = "DENIED"
	codeUnsupported = "UNSUPPORTED"
	codeUnknown     = "UNKNOWN"

	codeTooManyRequests = "TOOMANYREQUESTS"
)

// statusClientGone is in the log alone: nobody is there to get it.
const statusClientGone = 499

// challenge is the Proxy-Authenticate of every 407 (RFC 7617).
const challenge = `Basic realm="berth"`

// refusal is an answer that Berth gives itself.
type refusal struct {
	status  int
	code    string // for a client of a registry
	reason  string
	message string
	// cause is for the log alone.
	cause error
	// after is in how many seconds to try again; 0 says nothing about it.
	after int
	// last ends the connection. After a 407 git needs that, and some clients go on with a body that nobody reads.
	last bool
}

// tell tells a namespace why it was refused, where that is known and is what somebody there would want to know.
func (p *Proxy) tell(namespace string, no *refusal) {
	if p.Events == nil || namespace == "" {
		return
	}
	switch no.status {
	case http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		if no.reason != ReasonClientGone && no.reason != ReasonEnding {
			p.Events.Event(namespace, no.reason, no.message)
		}
	}
}

func (no *refusal) header() http.Header {
	h := http.Header{}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	if no.status == http.StatusProxyAuthRequired {
		h.Set("Proxy-Authenticate", challenge)
	}
	if no.after > 0 {
		h.Set("Retry-After", strconv.Itoa(no.after))
	}
	if no.last {
		h.Set("Connection", "close")
	}
	return h
}

func (no *refusal) text() string { return no.message + "\n" }

// writeText answers a client of the proxy itself.
func (no *refusal) writeText(w http.ResponseWriter) {
	h := w.Header()
	maps.Copy(h, no.header())
	h.Set("Content-Length", strconv.Itoa(len(no.text())))
	w.WriteHeader(no.status)
	_, _ = io.WriteString(w, no.text()) // a client that is gone needs no answer
}

// response is the same answer for a connection that no server has any more, or for goproxy.
func (no *refusal) response() *http.Response {
	return &http.Response{
		StatusCode: no.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: no.header(), Close: no.last,
		ContentLength: int64(len(no.text())), Body: io.NopCloser(strings.NewReader(no.text())),
	}
}

// writeEnvelope answers a client of a registry; to a HEAD, with the header alone.
func (no *refusal) writeEnvelope(w http.ResponseWriter, method string) {
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	body, _ := json.Marshal(map[string][]item{"errors": {{no.code, no.message}}}) //nolint:errchkjson // strings always encode
	h := w.Header()
	maps.Copy(h, no.header())
	h.Set(versionHeader, version)
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(no.status)
	if method != http.MethodHead {
		_, _ = w.Write(body) // a client that is gone needs no answer
	}
}
