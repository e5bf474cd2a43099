package controller

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api/v1alpha1"
)

// tokenService answers for a registry that takes no password, but tokens of its token service.
type tokenService struct {
	realm    string
	status   int // of the token service, to the right password
	opens    int // the status that its token gets at the registry
	attempts atomic.Int32
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, pass, _ := r.BasicAuth()
	switch {
	case r.URL.Path == "/alive":
	case r.URL.Path == "/token":
		s.attempts.Add(1)
		if pass != password {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, `{"token":"of-the-service"}`)
	case r.Header.Get("Authorization") == "Bearer of-the-service":
		w.WriteHeader(s.opens)
	default:
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="far"`, s.realm))
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func TestTokenService(t *testing.T) {
	t.Parallel()
	wrong := func(s *scene) { s.secrets.held["login"].Data[corev1.BasicAuthPasswordKey] = []byte("wrong") }
	nothing := func(*scene) {}
	for name, test := range map[string]struct {
		service  *tokenService
		change   func(*scene)
		want     string
		attempts int32 // in two looks
	}{
		"good":               {&tokenService{realm: "https://example.com/token", status: 200, opens: 200}, nothing, "True Accepted", 2},
		"on another host":    {&tokenService{realm: "https://www.example.com/token", status: 200, opens: 200}, nothing, "True Accepted", 2},
		"wrong password":     {&tokenService{realm: "https://example.com/token", status: 200, opens: 200}, wrong, "False CredentialRefused", 1},
		"grants nothing":     {&tokenService{realm: "https://example.com/token", status: 403, opens: 200}, nothing, "False RegistryDenied", 2},
		"token opens little": {&tokenService{realm: "https://example.com/token", status: 200, opens: 401}, nothing, "False RegistryDenied", 2},
		"broken":             {&tokenService{realm: "https://example.com/token", status: 503, opens: 200}, nothing, "False ServerError", 2},
		"elsewhere":          {&tokenService{realm: "https://example.org/token", status: 200, opens: 200}, nothing, "False TokenServiceForbidden", 0},
		"without TLS":        {&tokenService{realm: "http://example.com/token", status: 200, opens: 200}, nothing, "False TokenServiceForbidden", 0},
		"address forbidden": {&tokenService{realm: "https://www.example.com/token", status: 200, opens: 200}, func(s *scene) {
			dial := s.Dial
			s.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if address == "www.example.com:443" {
					return dialForbidden(ctx, network, address)
				}
				return dial(ctx, network, address)
			}
		}, "False AddressForbidden", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far := newRegistry(t, nil)
			far.Config.Handler = test.service
			s := newScene(t, far, harbor())
			test.change(s)
			for range 2 {
				if diff := cmp.Diff(test.want, s.look(t)[v1alpha1.ConditionAuthReady]); diff != "" {
					t.Errorf("AuthReady (-want +got):\n%s\n%s", diff, s.message(t, v1alpha1.ConditionAuthReady))
				}
			}
			if got := test.service.attempts.Load(); got != test.attempts {
				t.Errorf("%d attempts, want %d", got, test.attempts)
			}
		})
	}
}
