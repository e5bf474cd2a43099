package bearer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"berth.dev/berth/api/v1alpha1"
)

const (
	// maxAnswer bounds what is read of a token service, maxToken the token itself.
	maxAnswer = 64 << 10
	maxToken  = 32 << 10
	// maxHost is how long a host is that errors show.
	maxHost = 253
	// unstated is how long a token is good for whose service does not say; longest bounds what it may say.
	unstated  = time.Minute
	longest   = 24 * time.Hour
	userAgent = "berth"
)

// Error is why there is no token.
type Error struct {
	// Reason is one of the reasons of v1alpha1.
	Reason string
	// Detail says what went wrong and what to do. It names no host: whoever answers for the registry has chosen that.
	Detail string
	// Realm is the token service, without what may stand in its query.
	Realm string
	// Status is the token service's, 0 where it did not answer.
	Status int
	// Err is the cause; it may be nil, and never holds a credential or token.
	Err error
}

// Error is the detail, with the token service and the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("token service '%s': %s", e.Realm, e.Detail)
	}
	return fmt.Sprintf("token service '%s': %s: %v", e.Realm, e.Detail, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Request is what is asked of a token service.
type Request struct {
	// Challenge says where the token service is.
	Challenge Challenge
	// Scopes are what the token is for; those of the Challenge do not count.
	Scopes []Scope
	// Trust decides whether the token service may be asked.
	Trust Trust
	// Authorize puts the credential in; nil asks without one.
	Authorize func(*http.Request)
}

// Exchange asks a token service for a token. It follows no redirect. The errors are *Error.
func Exchange(ctx context.Context, via http.RoundTripper, r Request) (Token, error) {
	e := &exchange{Request: r}
	request, err := e.request(ctx)
	if err != nil {
		return Token{}, err
	}
	asked := time.Now()
	response, err := via.RoundTrip(request)
	if err != nil {
		return Token{}, e.fail(v1alpha1.ReasonUnreachable, "the registry's token service did not answer", 0, cause(err))
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if response.StatusCode != http.StatusOK {
		return Token{}, e.refused(response.StatusCode)
	}
	if err != nil || len(body) > maxAnswer {
		return Token{}, e.fail(v1alpha1.ReasonUnreachable, "the registry's token service did not answer to the end", response.StatusCode, cause(err))
	}
	text, life, ok := parseAnswer(body)
	if !ok {
		return Token{}, e.fail(v1alpha1.ReasonUnexpectedAnswer, "the registry's token service answered without a token", response.StatusCode, nil)
	}
	return newToken(text, asked, asked.Add(life)), nil
}

// exchange is one Request on its way.
type exchange struct {
	Request
	// realm is the token service's, for errors.
	realm string
}

// request is what the token service gets.
func (e *exchange) request(ctx context.Context) (*http.Request, error) {
	to, err := e.Trust.service(e.Challenge.Realm, e.Authorize == nil)
	if err != nil {
		e.realm = shown(e.Challenge.Realm)
		return nil, e.fail(v1alpha1.ReasonTokenServiceForbidden,
			"the registry sends its clients to a token service that the credential may not go to; if it is the registry's, the Connector's owner must list it in `spec.addressExtensions`", 0, err)
	}
	e.realm = to.Scheme + "://" + to.Host
	query := to.Query()
	query.Del("scope")
	for _, scope := range e.Scopes {
		query.Add("scope", string(scope))
	}
	if e.Challenge.Service != "" {
		query.Set("service", e.Challenge.Service)
	}
	to.RawQuery = query.Encode()
	request := &http.Request{Method: http.MethodGet, URL: to, Host: to.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}}
	if e.Authorize != nil {
		e.Authorize(request)
	}
	request.Header.Set("User-Agent", userAgent)
	request.Header.Set("Accept", "application/json")
	return request.WithContext(ctx), nil
}

// shown is a realm as errors show it: without what may stand in its query, its
// user or its path, and not at length.
func shown(realm string) string {
	parsed, err := url.Parse(realm)
	if err != nil || parsed.Host == "" || len(parsed.Host) > maxHost {
		return "unknown"
	}
	return parsed.Scheme + "://" + parsed.Host
}

// refused is for an answer that is no success.
func (e *exchange) refused(status int) *Error {
	switch {
	case status == http.StatusUnauthorized && e.Authorize == nil:
		return e.fail(v1alpha1.ReasonCredentialRefused, "the registry's token service asks for a credential, and the Connector has none; its owner must write `auth`", status, nil)
	case status == http.StatusUnauthorized:
		return e.fail(v1alpha1.ReasonCredentialRefused, "the registry's token service refuses the Connector's credential; its owner must put a good one into its Secret", status, nil)
	case status == http.StatusForbidden:
		return e.fail(v1alpha1.ReasonRegistryDenied, "the registry's token service does not grant this to the Connector's credential", status, nil)
	case status >= http.StatusInternalServerError:
		return e.fail(v1alpha1.ReasonServerError, fmt.Sprintf("the registry's token service answers with status %d", status), status, nil)
	default:
		return e.fail(v1alpha1.ReasonUnexpectedAnswer, fmt.Sprintf("the registry's token service answers with status %d", status), status, nil)
	}
}

func (e *exchange) fail(reason, detail string, status int, err error) *Error {
	return &Error{Reason: reason, Detail: detail, Realm: e.realm, Status: status, Err: err}
}

// cause keeps of an error what cannot hold bytes of an answer, which might be
// those of the credential that was sent.
func cause(err error) error {
	var connection *net.OpError
	var dns *net.DNSError
	var untrusted *tls.CertificateVerificationError
	var slow interface{ Timeout() bool }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &untrusted):
		return untrusted
	case errors.As(err, &dns), errors.As(err, &connection), errors.As(err, &slow) && slow.Timeout(),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled):
		return err
	default:
		return errNotHTTP
	}
}

var errNotHTTP = errors.New("what it answers is not HTTP")

// parseAnswer reads what a token service answered. Nothing of it stands in an error.
func parseAnswer(body []byte) (token string, life time.Duration, ok bool) {
	var answer struct {
		Token       string      `json:"token"`
		AccessToken string      `json:"access_token"`
		ExpiresIn   json.Number `json:"expires_in"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return "", 0, false
	}
	token = answer.Token
	if token == "" {
		token = answer.AccessToken
	}
	seconds, err := answer.ExpiresIn.Float64()
	switch {
	case err != nil || !(seconds > 0):
		life = unstated
	case seconds > longest.Seconds():
		life = longest
	default:
		life = time.Duration(seconds * float64(time.Second))
	}
	return token, life, token != "" && len(token) <= maxToken && visible(token)
}

// IsRefusal reports whether an error says that a token service refused the credential.
func IsRefusal(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Reason == v1alpha1.ReasonCredentialRefused
}
