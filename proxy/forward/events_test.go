package forward

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/egress"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/token"
)

// told are Events.
type told struct {
	mu     sync.Mutex
	events []string
}

func (t *told) Event(namespace, reason, message string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, namespace+" "+reason+": "+message)
}

func (t *told) only() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.events, "\n")
}

// elsewhere is where all Pods are of another namespace.
type elsewhere struct{}

func (elsewhere) Namespaces(netip.Addr) []string { return []string{"team"} }

// A namespace is told why it was refused, and only the one that a token is really of.
func TestEvents(t *testing.T) {
	t.Parallel()
	foreign, _, _, err := token.Keys{}.Step(time.Now().Add(-2*time.Hour), token.Rotation{Every: 24 * time.Hour, Keep: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	connect := func(w *world, held, target string) {
		w.raw("CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\nProxy-Authorization: " + w.basic("berth", held) + "\r\n\r\n")
	}
	for name, tc := range map[string]struct {
		do   func(w *world)
		want string // how the one Event begins; empty: there is none
	}{
		"a tunnel":         {func(w *world) { w.dial("demo", evilAt) }, ""},
		"no token":         {func(w *world) { w.raw("CONNECT " + evilAt + " HTTP/1.1\r\nHost: " + evilAt + "\r\n\r\n") }, ""},
		"policy":           {func(w *world) { w.policy.Mode = egress.Connectors; w.dial("demo", evilAt) }, "demo EgressRefused: "},
		"forbidden":        {func(w *world) { w.dial("demo", "127.0.0.1:443") }, "demo AddressForbidden: "},
		"plain, forbidden": {func(w *world) { _, _ = w.client("demo").Get("http://127.0.0.1/secret?token=x") }, "demo AddressForbidden: "},
		"unreachable":      {func(w *world) { w.dial("demo", "nowhere.example.net:443") }, "demo Unreachable: "},
		"expired": {func(w *world) {
			connect(w, w.token("demo", func(c *token.Claims) { c.Expires = w.now.Add(-time.Minute) }), evilAt)
		}, "demo TokenRefused: "},
		"revoked": {func(w *world) {
			connect(w, w.token("demo", func(c *token.Claims) { c.Generation = "0" }), evilAt)
		}, "demo TokenRevoked: "},
		"kubelet's": {func(w *world) {
			connect(w, w.token("demo", func(c *token.Claims) { c.Audience = token.AudiencePull }), evilAt)
		}, "demo TokenRefused: "},
		"from nowhere": {func(w *world) {
			w.options.Identity.(*identity.Authenticator).CheckSources(elsewhere{})
			w.dial("demo", evilAt)
			w.log.has(w.t, ReasonSourceRefused)
		}, "demo SourceRefused: "},
		"of a deleted namesake": {func(w *world) {
			connect(w, w.token("demo", func(c *token.Claims) { c.NamespaceUID = "older" }), evilAt)
		}, ""},
		"forged": {func(w *world) {
			w.keys = foreign
			connect(w, w.token("demo", func(c *token.Claims) { c.Expires = w.now.Add(-time.Minute) }), evilAt)
		}, ""},
		"within a tunnel": {func(w *world) {
			response, err := w.client("demo").Get("https://" + harborHost + "/api/v2.0/users")
			if err == nil {
				_ = response.Body.Close()
			}
		}, "demo PathInvalid: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events := &told{}
			w := newWorld(t, func(o *Options) { o.Events = events })
			tc.do(w)
			switch got := events.only(); {
			case tc.want == "" && got != "", !strings.HasPrefix(got, tc.want), strings.Contains(got, "\n"):
				t.Errorf("Events: %q, want %q", got, tc.want)
			case strings.Contains(got, "secret"), strings.Contains(got, w.token("demo")):
				t.Errorf("the Event says too much: %q", got)
			}
		})
	}
}
