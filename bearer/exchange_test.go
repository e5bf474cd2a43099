package bearer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api/v1alpha1"
)

// serve starts a token service, and returns what asks it.
func serve(t *testing.T, handler http.HandlerFunc) (*httptest.Server, Request) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	return server, Request{
		Challenge: Challenge{Realm: server.URL + "/token?account=x&scope=evil", Service: "registry"},
		Scopes:    []Scope{Repository("a", Pull), Repository("b", Pull, Push)},
		Trust:     trusting(t, server.URL+"/artifactory"),
		Authorize: func(r *http.Request) { r.SetBasicAuth("robot", "hunter2") },
	}
}

func TestExchange(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		answer string
		life   time.Duration
		reason string
	}{
		"token":             {200, `{"token":"abc","expires_in":300}`, 5 * time.Minute, ""},
		"access token":      {200, `{"access_token":"abc","expires_in":"300"}`, 5 * time.Minute, ""},
		"both":              {200, `{"access_token":"xyz","token":"abc"}`, time.Minute, ""},
		"no end told":       {200, `{"token":"abc","expires_in":0}`, time.Minute, ""},
		"ended before":      {200, `{"token":"abc","expires_in":-5}`, time.Minute, ""},
		"long":              {200, `{"token":"abc","expires_in":1e300}`, 24 * time.Hour, ""},
		"half a second":     {200, `{"token":"abc","expires_in":0.5}`, time.Second / 2, ""},
		"none":              {200, `{}`, 0, v1alpha1.ReasonUnexpectedAnswer},
		"no JSON":           {200, `<html>`, 0, v1alpha1.ReasonUnexpectedAnswer},
		"another kind":      {200, `{"token":1}`, 0, v1alpha1.ReasonUnexpectedAnswer},
		"of two lines":      {200, `{"token":"abc\r\nX-Evil: 1"}`, 0, v1alpha1.ReasonUnexpectedAnswer},
		"of two words":      {200, `{"token":"abc def"}`, 0, v1alpha1.ReasonUnexpectedAnswer},
		"too long a token":  {200, `{"token":"` + strings.Repeat("x", maxToken+1) + `"}`, 0, v1alpha1.ReasonUnexpectedAnswer},
		"too long":          {200, `{"token":"abc"}` + strings.Repeat(" ", maxAnswer), 0, v1alpha1.ReasonUnreachable},
		"created":           {201, `{"token":"abc"}`, 0, v1alpha1.ReasonUnexpectedAnswer},
		"refused":           {401, `{"token":"abc"}`, 0, v1alpha1.ReasonCredentialRefused},
		"denied":            {403, "", 0, v1alpha1.ReasonRegistryDenied},
		"too many requests": {429, "", 0, v1alpha1.ReasonUnexpectedAnswer},
		"broken":            {503, "", 0, v1alpha1.ReasonServerError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, request := serve(t, func(w http.ResponseWriter, r *http.Request) {
				user, password, _ := r.BasicAuth()
				got := []any{r.Method, r.URL.Path, map[string][]string(r.URL.Query()), user, password}
				want := []any{"GET", "/token", map[string][]string{"account": {"x"}, "service": {"registry"}, "scope": {"repository:a:pull", "repository:b:pull,push"}}, "robot", "hunter2"}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("request (-want +got)\n%s", diff)
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.answer)
			})
			token, err := Exchange(t.Context(), transport(), request)
			var why *Error
			if errors.As(err, &why); (err == nil) != (test.reason == "") || err != nil && (why.Reason != test.reason || why.Status != test.status) {
				t.Fatalf("%v, want reason %q", err, test.reason)
			}
			if err != nil {
				if text := fmt.Sprintf("%v %+v", err, why); strings.Contains(text, "abc") || strings.Contains(text, "hunter2") {
					t.Errorf("the error holds a credential: %s", text)
				}
				return
			}
			r := httptest.NewRequest("GET", "/", nil)
			token.Authorize(r)
			if got := r.Header.Get("Authorization"); got != "Bearer abc" || token.Expires.Sub(token.Issued) != test.life {
				t.Errorf("%s for %s, want %s", got, token.Expires.Sub(token.Issued), test.life)
			}
		})
	}
}

// transport trusts every server, as a Connector's does those of its authority.
func transport() *http.Transport {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	via := server.Client().Transport.(*http.Transport).Clone()
	via.DisableKeepAlives = true
	return via
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	_, request := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" {
			t.Errorf("followed to %s", r.URL)
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	_, err := Exchange(t.Context(), transport(), request)
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != v1alpha1.ReasonUnexpectedAnswer || e.Status != 307 {
		t.Errorf("%v", err)
	}
}

func TestForbiddenRealmIsNotAsked(t *testing.T) {
	t.Parallel()
	_, request := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the credential went there") })
	request.Trust = trusting(t, "https://registry.example.com")
	_, err := Exchange(t.Context(), transport(), request)
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != v1alpha1.ReasonTokenServiceForbidden || !errors.Is(err, errAddress) {
		t.Errorf("%v", err)
	}
}

func TestAnonymousExchange(t *testing.T) {
	t.Parallel()
	_, request := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a credential went there")
		}
		w.WriteHeader(http.StatusUnauthorized)
	})
	request.Authorize = nil
	_, err := Exchange(t.Context(), transport(), request)
	if !IsRefusal(err) || !strings.Contains(err.Error(), "`auth`") {
		t.Errorf("%v", err)
	}
}

// TestErrorsHoldNoAnswer: a token service that echoes what it got finds its words nowhere.
func TestErrorsHoldNoAnswer(t *testing.T) {
	t.Parallel()
	_, request := serve(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		_, _ = io.WriteString(conn, "HTTP/1.1 "+r.Header.Get("Authorization")+"\r\n\r\n")
		_ = conn.Close()
	})
	_, err := Exchange(t.Context(), transport(), request)
	if err == nil || strings.Contains(err.Error(), "cm9ib3Q") {
		t.Errorf("%v", err)
	}
	if !errors.Is(err, errNotHTTP) {
		t.Errorf("%v, want one that says so", err)
	}
}

func TestTokenServiceDown(t *testing.T) {
	t.Parallel()
	server, request := serve(t, nil)
	server.Close()
	_, err := Exchange(t.Context(), transport(), request)
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != v1alpha1.ReasonUnreachable {
		t.Errorf("%v", err)
	}
	if _, ok := errors.AsType[*net.OpError](err); !ok {
		t.Errorf("the cause is lost: %v", err)
	}
}

func TestTokenDoesNotPrint(t *testing.T) {
	t.Parallel()
	token := newToken("s3cret", time.Unix(1, 0), time.Unix(2, 0))
	inside := struct{ hidden, Open Token }{token, token}
	encoded, _ := json.Marshal(inside)
	if printed := fmt.Sprintf("%v %+v %#v %s %s %v", token, inside, inside, token, encoded, token.LogValue()); strings.Contains(printed, "s3cret") || !strings.Contains(printed, redacted) {
		t.Error(printed)
	}
	if !token.In("a s3cret word") || token.In("word") || (Token{}).In("word") {
		t.Error("In does not find the token, or finds it where it is not")
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer of-the-client")
	(Token{}).Authorize(r)
	if r.Header.Get("Authorization") != "" {
		t.Error("the client's Authorization stays")
	}
}
