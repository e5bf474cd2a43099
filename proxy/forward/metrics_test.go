package forward

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/egress"
)

// refused returns what a registry counts of refusals, as 'NAMESPACE/CONNECTOR REASON'.
func refused(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() != metricsPrefix+"refusals_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			counts[labels[labelNamespace]+"/"+labels[labelConnector]+" "+labels[labelReason]] = m.GetCounter().GetValue()
		}
	}
	return counts
}

// Each refusal is counted once, whatever it refused, and nothing else is.
func TestRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	connect := func(head ...string) string {
		return "CONNECT " + evilAt + " HTTP/1.1\r\nHost: " + evilAt + "\r\n" + strings.Join(head, "") + "\r\n"
	}
	inside := func(path string) func(*world) {
		return func(w *world) { w.get(w.client("demo"), "https://"+harborHost+path) }
	}
	for name, tc := range map[string]struct {
		do   func(w *world)
		want string // empty: nothing is counted
	}{
		"a tunnel":         {func(w *world) { w.dial("demo", evilAt) }, ""},
		"a request":        {inside("/v2/test/abc/manifests/v1"), ""},
		"a plain request":  {func(w *world) { w.get(w.client("demo"), "http://plain.example.net/") }, ""},
		"no token":         {func(w *world) { w.raw(connect()) }, "/ " + ReasonNoToken},
		"a bad token":      {func(w *world) { w.raw(connect("Proxy-Authorization: " + w.basic("berth", "made-up") + "\r\n")) }, "/ " + ReasonTokenRefused},
		"a tunnel, policy": {func(w *world) { w.policy.Mode = egress.Connectors; w.dial("demo", evilAt) }, "/ " + ReasonEgressRefused},
		"a plain request, policy": {func(w *world) {
			w.policy.Mode = egress.Connectors
			w.get(w.client("demo"), "http://plain.example.net/")
		}, "/ " + ReasonEgressRefused},
		"a plain request, a 407": {func(w *world) {
			w.evil.answer(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusProxyAuthRequired) })
			w.get(w.client("demo"), "http://plain.example.net/")
		}, "/ " + ReasonUnreachable},
		"another server in the handshake": {func(w *world) {
			_, c := w.dial("demo", harborAt)
			_, _ = w.secure(c, "notary.example.com")
		}, "/ " + ReasonHostMismatch},
		"a path": {inside("/c/login"), "/ " + ReasonPathInvalid},
		"a Connector without its credential": {func(w *world) {
			w.secrets.put("demo", "credentials", corev1.SecretTypeOpaque, nil)
			inside("/v2/test/abc/manifests/v1")(w)
		}, "demo/harbor " + v1alpha1.ReasonSecretTypeWrong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registered := prometheus.NewPedanticRegistry()
			w := newWorld(t, func(o *Options) { o.Metrics = registered })
			tc.do(w)
			want := map[string]float64{}
			if tc.want != "" {
				want[tc.want] = 1
			}
			if !eventually(func() bool { return cmp.Equal(want, refused(t, registered)) }) {
				t.Errorf("(-want +counted):\n%s", cmp.Diff(want, refused(t, registered)))
			}
		})
	}
}

// A client that left was refused nothing, and nobody is told so.
func TestAClientThatLeftWasNotRefused(t *testing.T) {
	t.Parallel()
	events, registered := &told{}, prometheus.NewPedanticRegistry()
	w := newWorld(t, func(o *Options) { o.Events, o.Metrics = events, registered })
	ctx, leave := context.WithCancel(t.Context())
	w.evil.answer(func(_ http.ResponseWriter, r *http.Request) {
		leave()
		<-r.Context().Done()
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://plain.example.net/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := w.client("demo").Do(r); err == nil {
		_ = response.Body.Close()
		t.Fatalf("status %d, want none", response.StatusCode)
	}
	if !eventually(func() bool { return strings.Contains(w.log.String(), `"msg":"forward plain"`) }) {
		t.Fatalf("there is no line in the log: %s", w.log)
	}
	if counted := refused(t, registered); len(counted) > 0 || events.only() != "" {
		t.Errorf("counted: %v; told: %q", counted, events.only())
	}
}
