package registry

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/proxy/upstream"
)

func TestInFlight(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.options.MostInFlight, w.options.MostOfNamespace = 3, 2
	w.serve(w.options)
	arrived, release := make(chan struct{}, 3), make(chan struct{})
	w.registry.answer(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	var held sync.WaitGroup
	hold := func(path, namespace string) {
		r := w.request(http.MethodGet, path, w.token(namespace))
		held.Go(func() { w.do(r) })
		<-arrived
	}
	hold(base+"a/manifests/v1", "demo")
	hold(base+"a/manifests/v1", "demo")
	if got := w.get(base+"a/manifests/v1", "demo"); got.StatusCode != 429 || got.code != CodeTooManyRequests || got.Header.Get("Retry-After") == "" {
		t.Errorf("a third of the same namespace: %d %v", got.StatusCode, got.Header)
	}
	hold(base+"test/a/manifests/v1", "team")
	if got := w.get(base+"test/a/manifests/v1", "team"); got.StatusCode != 429 {
		t.Errorf("a fourth of all: %d", got.StatusCode)
	}
	close(release)
	held.Wait()
	w.registry.answer(answers(200))
	for range 5 {
		if got := w.get(base+"a/manifests/v1", "demo"); got.StatusCode != 200 {
			t.Errorf("after: %d", got.StatusCode)
		}
	}
}

type told struct {
	mu     sync.Mutex
	events []string
}

func (t *told) Event(namespace, reason, message string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, namespace+" "+reason+": "+message)
}

func TestEvents(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	told := &told{}
	w.options.Events = told
	w.serve(w.options)
	for name, test := range map[string]struct {
		path, namespace, token string
		answer                 http.HandlerFunc
		password               string
		want                   string
	}{
		"pulled":            {path: base + "a/manifests/v1", namespace: "demo", answer: answers(200)},
		"the registry's no": {path: base + "a/manifests/v1", namespace: "demo", answer: answers(404)},
		"unknown":           {path: base + "a/manifests/v1", token: "eyJ.no.token"},
		"refused":           {path: base + "secret/manifests/v1?x=query", namespace: "team", want: "team " + ReasonRepositoryRefused},
		"no Connector":      {path: "/v2/namespaces/demo/connectors/nope/a/manifests/v1", namespace: "team", want: "team " + ReasonConnectorUnknown},
		"registry fails":    {path: base + "a/manifests/v1?x=query", namespace: "demo", password: "another", want: "demo " + v1alpha1.ReasonCredentialRefused},
	} {
		t.Run(name, func(t *testing.T) {
			told.events = nil
			w.registry.answer(test.answer)
			w.registry.demand(cmp.Or(test.password, password))
			w.rotate(password) // what was refused before is tried again
			shown := test.token
			if shown == "" {
				shown = w.token(test.namespace)
			}
			w.do(w.request(http.MethodHead, test.path, shown))
			told.mu.Lock()
			defer told.mu.Unlock()
			if got := strings.Join(told.events, "\n"); !strings.HasPrefix(got, test.want) || (got == "") != (test.want == "") || strings.Contains(got, "query") || strings.Contains(got, password) {
				t.Errorf("told %q, want %q", got, test.want)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	registered := prometheus.NewPedanticRegistry()
	w.options.Metrics = registered
	w.serve(w.options)
	w.registry.answer(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = rw.Write([]byte("four"))
	})
	w.get(base+"a/manifests/v1", "demo")
	w.get(base+"b/manifests/v1", "demo")
	w.send(http.MethodPut, base+"a/manifests/v1", "demo", "eight888")
	w.get(base+"a/manifests/v1", "stranger")
	w.get("/v2/namespaces/made/connectors/up/a/manifests/v1", "demo")
	w.get("/v2/namespaces/made/connectors/up-too/a/manifests/v1", "demo")
	w.registry.demand("another")
	w.get(base+"a/manifests/v1", "demo")
	want := `
# HELP berth_proxy_requests_total Requests for registries, by Connector, action and status; 499 is a client that left.
# TYPE berth_proxy_requests_total counter
berth_proxy_requests_total{action="pull",connector="",connector_namespace="",status="404"} 2
berth_proxy_requests_total{action="pull",connector="harbor",connector_namespace="demo",status="200"} 2
berth_proxy_requests_total{action="pull",connector="harbor",connector_namespace="demo",status="403"} 1
berth_proxy_requests_total{action="pull",connector="harbor",connector_namespace="demo",status="502"} 1
berth_proxy_requests_total{action="push",connector="harbor",connector_namespace="demo",status="200"} 1
# HELP berth_proxy_upstream_errors_total Requests that registries gave no usable answer to, by reason (docs/reasons.md).
# TYPE berth_proxy_upstream_errors_total counter
berth_proxy_upstream_errors_total{connector="harbor",connector_namespace="demo",reason="CredentialRefused"} 1
# HELP berth_proxy_requests_in_flight Requests for registries that have no whole answer yet.
# TYPE berth_proxy_requests_in_flight gauge
berth_proxy_requests_in_flight 0
`
	var err error
	if !eventually(func() bool {
		err = testutil.GatherAndCompare(registered, strings.NewReader(want), "berth_proxy_requests_total", "berth_proxy_upstream_errors_total", "berth_proxy_requests_in_flight")
		return err == nil
	}) {
		t.Error(err)
	}
	families, _ := registered.Gather()
	bytes := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels += l.GetValue() + " "
			}
			if family.GetName() == "berth_proxy_bytes_total" && strings.HasPrefix(labels, "harbor") {
				bytes[labels] = m.GetCounter().GetValue()
			}
		}
	}
	if bytes["harbor demo in "] != 8 {
		t.Errorf("bytes: %s", fmt.Sprint(bytes))
	}
}

func TestLogOfAPush(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.registry.answer(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.WriteHeader(http.StatusCreated)
	})
	w.send(http.MethodPut, base+"a/blobs/uploads/secret-upload?digest=secret", "demo", "eight888")
	line := w.log.last(t)
	for _, name := range []string{"time", "duration_ms"} {
		delete(line, name)
	}
	want := map[string]any{
		"level": "INFO", "msg": "registry request", "method": "PUT", "source": "127.0.0.1", "namespace": "demo", "connector": "demo/harbor",
		"action": "push", "repository": "a", "status": 201.0, "upstream_status": 201.0, "bytes_in": 8.0, "bytes_out": 0.0,
	}
	if diff := gocmp.Diff(want, line); diff != "" {
		t.Errorf("log (-want +got)\n%s", diff)
	}
}
