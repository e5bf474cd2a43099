package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/proxy/stream"
	"berth.dev/berth/proxy/upstream"
	"berth.dev/berth/secret"
)

// Code is a code of an OCI error envelope.
type Code string

// The codes that Berth answers with, of those that the OCI distribution
// specification lists. CodeUnknown is Distribution's: the specification has none
// for a registry that fails, which is what 502 and 504 are about here.
const (
	CodeUnauthorized    Code = "UNAUTHORIZED"
	CodeDenied          Code = "DENIED"
	CodeNameUnknown     Code = "NAME_UNKNOWN"
	CodeNameInvalid     Code = "NAME_INVALID"
	CodeDigestInvalid   Code = "DIGEST_INVALID"
	CodeManifestUnknown Code = "MANIFEST_UNKNOWN"
	CodeUploadUnknown   Code = "BLOB_UPLOAD_UNKNOWN"
	CodeUploadInvalid   Code = "BLOB_UPLOAD_INVALID"
	CodeUnsupported     Code = "UNSUPPORTED"
	CodeTooManyRequests Code = "TOOMANYREQUESTS"
	CodeUnknown         Code = "UNKNOWN"
)

// The reasons of refusals, in the access log. Those of upstream failures are the reasons of v1alpha1.
const (
	// ReasonNoToken: the client showed no token; clients ask like that first.
	ReasonNoToken = "NoToken"
	// ReasonTokenRefused: the client's token is no good.
	ReasonTokenRefused = "TokenRefused"
	// ReasonNamespaceGone: the token's namespace was deleted.
	ReasonNamespaceGone = "NamespaceGone"
	// ReasonTokenUnchecked: the API server, which knows a ServiceAccount's token, does not answer.
	ReasonTokenUnchecked = "TokenUnchecked"
	// ReasonTokenRevoked: the tokens of the namespace were revoked since it was made.
	ReasonTokenRevoked = "TokenRevoked"
	// ReasonSourceRefused: the token was shown from an address that is no Pod's of its namespace.
	ReasonSourceRefused = "SourceRefused"
	// ReasonTooManyFailures: the client's address showed too many tokens that are no good.
	ReasonTooManyFailures = "TooManyFailures"
	// ReasonTooManyRequests: too many requests of the namespace, or of all, have no answer yet.
	ReasonTooManyRequests = "TooManyRequests"
	// ReasonPathInvalid: the path is not one of the API.
	ReasonPathInvalid = "PathInvalid"
	// ReasonUnsupported: the method is not one that Berth serves, or the client asked for another protocol.
	ReasonUnsupported = "Unsupported"
	// ReasonHostMismatch: the Host names another Connector than the path.
	ReasonHostMismatch = "HostMismatch"
	// ReasonConnectorUnknown: there is no such Connector.
	ReasonConnectorUnknown = "ConnectorUnknown"
	// ReasonNamespaceRefused: the Connector's rules do not list the namespace.
	ReasonNamespaceRefused = "NamespaceRefused"
	// ReasonRepositoryRefused: they list it, but not for the repository.
	ReasonRepositoryRefused = "RepositoryRefused"
	// ReasonActionRefused: they list it for the repository, but not for the action.
	ReasonActionRefused = "ActionRefused"
	// ReasonTokenForPulls: the token is kubelet's, and the request no pull.
	ReasonTokenForPulls = "TokenForPulls"
	// ReasonAPIClosed: the Connector's class does not open that of the server's API.
	ReasonAPIClosed = "APIClosed"
	// ReasonAPICredentials: it is about credentials, which no class opens.
	ReasonAPICredentials = "APICredentials"
	// ReasonClientStalled: the client stopped sending.
	ReasonClientStalled = "ClientStalled"
	// ReasonClientGone: the client went before it had its answer.
	ReasonClientGone = "ClientGone"
	// ReasonAborted: the answer ended early, at either end.
	ReasonAborted = "Aborted"
	// ReasonInternal: Berth itself failed.
	ReasonInternal = "Internal"
)

// statusClientGone is in the log alone: nobody is there to get it.
const statusClientGone = 499

// challenge is the Www-Authenticate of every 401 (RFC 7617).
const challenge = `Basic realm="berth"`

// refusal is an answer that Berth gives itself.
type refusal struct {
	status  int
	code    Code
	reason  string
	message string
	// cause is for the log alone.
	cause error
	// after is in how many seconds to try again; 0 says nothing about it.
	after int
	// allow are the methods that would do.
	allow string
}

// write answers with an OCI error envelope; to a HEAD, with its header alone.
func (no *refusal) write(w http.ResponseWriter, method string) {
	type item struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
	}
	body, _ := json.Marshal(map[string][]item{"errors": {{no.code, no.message}}}) //nolint:errchkjson // strings always encode
	h := w.Header()
	h.Set(versionHeader, version)
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	if no.status == http.StatusUnauthorized {
		h.Set("Www-Authenticate", challenge)
	}
	if no.after > 0 {
		h.Set("Retry-After", strconv.Itoa(no.after))
	}
	if no.allow != "" {
		h.Set("Allow", no.allow)
	}
	w.WriteHeader(no.status)
	if method != http.MethodHead {
		_, _ = w.Write(body) // a client that is gone needs no answer
	}
}

// unauthorized is for an error of the Authenticator.
func unauthorized(err error) *refusal {
	no := &refusal{status: http.StatusUnauthorized, code: CodeUnauthorized, reason: ReasonTokenRefused, message: err.Error(), cause: err}
	switch {
	case errors.Is(err, identity.ErrNoCredentials):
		no.reason = ReasonNoToken
	case errors.Is(err, identity.ErrNamespace):
		no.reason = ReasonNamespaceGone
	case errors.Is(err, identity.ErrRevoked):
		no.reason = ReasonTokenRevoked
	case errors.Is(err, identity.ErrSource):
		no.reason = ReasonSourceRefused
	case errors.Is(err, identity.ErrUnavailable): // that says nothing about the token
		no.status, no.code, no.reason, no.after = http.StatusServiceUnavailable, CodeUnknown, ReasonTokenUnchecked, retryAfter
	}
	return no
}

// misdirected is for an error of ParsePath.
func misdirected(err error) *refusal {
	no := &refusal{status: http.StatusBadRequest, reason: ReasonPathInvalid, message: err.Error()}
	switch {
	case errors.Is(err, endpoint.ErrRepository):
		no.code = CodeNameInvalid
	case errors.Is(err, endpoint.ErrDigest):
		no.code = CodeDigestInvalid
	case errors.Is(err, endpoint.ErrTag):
		no.status, no.code = http.StatusNotFound, CodeManifestUnknown
	case errors.Is(err, endpoint.ErrUpload):
		no.status, no.code = http.StatusNotFound, CodeUploadUnknown
	default:
		no.status, no.code = http.StatusNotFound, CodeNameUnknown
	}
	return no
}

// unsupported is for a method that the path does not know.
func unsupported(method, allow string) *refusal {
	return &refusal{
		status: http.StatusMethodNotAllowed, code: CodeUnsupported, reason: ReasonUnsupported, allow: allow,
		message: fmt.Sprintf("method '%s' is not supported here; use one of %s", method, allow),
	}
}

// unfinished is for a client whose request did not come whole.
func unfinished(err error) *refusal {
	if stream.Stalled(err) {
		return &refusal{
			status: http.StatusRequestTimeout, code: CodeUploadInvalid, reason: ReasonClientStalled, cause: err,
			message: "the request's body stopped coming",
		}
	}
	return &refusal{status: http.StatusBadRequest, code: CodeUploadInvalid, reason: ReasonClientGone, cause: err, message: "the request's body broke off"}
}

// denied is for an error of access.Rules.
func denied(err error, caller access.Caller, t Target, action v1alpha1.Action) *refusal {
	no := &refusal{status: http.StatusForbidden, code: CodeDenied}
	const ask = "ask the Connector's owner for a rule in `spec.access`"
	switch {
	case errors.Is(err, access.ErrNamespace):
		no.reason = ReasonNamespaceRefused
		no.message = fmt.Sprintf("namespace '%s' may not use Connector '%s': no rule lists it; %s", caller.Namespace, t.Connector, ask)
	case errors.Is(err, access.ErrRepository) && action != v1alpha1.ActionAPI:
		no.reason = ReasonRepositoryRefused
		no.message = fmt.Sprintf("namespace '%s' may not use repository '%s' of Connector '%s': no rule grants it that one; %s", caller.Namespace, t.Repository, t.Connector, ask)
	case action == v1alpha1.ActionAPI:
		no.reason = ReasonActionRefused
		no.message = fmt.Sprintf("namespace '%s' may not use the API behind Connector '%s': no rule about all repositories grants it action 'api'; %s", caller.Namespace, t.Connector, ask)
	default:
		no.reason = ReasonActionRefused
		no.message = fmt.Sprintf("namespace '%s' may not %s '%s' through Connector '%s': no rule grants it that action; %s", caller.Namespace, action, t.Repository, t.Connector, ask)
	}
	return no
}

// failed is for an error on the way to the registry, or in its answer.
func failed(err error, t Target) *refusal {
	no := &refusal{status: http.StatusBadGateway, code: CodeUnknown, cause: err}
	var problem *secret.Problem
	var far *upstream.Error
	switch {
	case errors.As(err, &problem):
		// The detail speaks to the Connector's owner, of a Secret that is not the caller's to know.
		no.reason = problem.Reason
		no.message = fmt.Sprintf("Connector '%s' cannot sign in to its registry (%s); its owner finds what to do by: kubectl -n %s describe connector %s",
			t.Connector, problem.Reason, t.Connector.Namespace, t.Connector.Name)
	case errors.As(err, &far):
		no.reason = far.Reason
		no.message = fmt.Sprintf("Connector '%s': %s", t.Connector, far.Error())
		if far.Reason == v1alpha1.ReasonRegistryDenied {
			no.status, no.code = http.StatusForbidden, CodeDenied
		}
		if far.Timeout() {
			no.status = http.StatusGatewayTimeout
		}
	default:
		no.reason = ReasonInternal
		no.message = fmt.Sprintf("Connector '%s': the request to its registry failed; the log of berth proxy says why", t.Connector)
	}
	return no
}
