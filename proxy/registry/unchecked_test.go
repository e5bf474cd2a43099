package registry

import (
	"net/http"
	"testing"

	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/proxy/upstream"
)

// noAPIServer is an authenticator that cannot check anything now.
type noAPIServer struct{}

func (noAPIServer) Authenticate(*http.Request) (identity.Identity, error) {
	return identity.Identity{}, identity.ErrUnavailable
}

// TestTokensThatCannotBeChecked: who cannot be told apart now is asked to come again, and is held for no failure.
func TestTokensThatCannotBeChecked(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	o := w.options
	o.Identity = noAPIServer{}
	w.serve(o)
	for range 100 {
		got := w.do(w.request(http.MethodGet, "/v2/", "some.token"))
		if got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" || got.Header.Get("Www-Authenticate") != "" {
			t.Fatalf("%d %v %s", got.StatusCode, got.Header, got.body)
		}
	}
}
