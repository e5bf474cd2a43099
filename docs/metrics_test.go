package docs_test

import (
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	_ "sigs.k8s.io/controller-runtime" // registers its metrics
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"berth.dev/berth/proxy/forward"
	"berth.dev/berth/proxy/registry"
)

// metricNames returns the names of what a collector collects.
func metricNames(t *testing.T, c prometheus.Collector) []string {
	t.Helper()
	all := make(chan *prometheus.Desc)
	go func() {
		c.Describe(all)
		close(all)
	}()
	var names []string
	for desc := range all {
		_, rest, _ := strings.Cut(desc.String(), `fqName: "`)
		name, _, ok := strings.Cut(rest, `"`)
		if !ok {
			t.Fatalf("no name in %s", desc)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestMetrics: what operators are told to watch is there, and they are told of all that is Berth's.
func TestMetrics(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("operations.md")
	if err != nil {
		t.Fatal(err)
	}
	ours := prometheus.NewRegistry()
	registry.New(registry.Options{Metrics: ours})
	proxy := forward.New(forward.Options{Metrics: ours, Log: slog.New(slog.DiscardHandler)})
	defer func() { _ = proxy.Shutdown(t.Context()) }()
	libraries, ok := metrics.Registry.(prometheus.Collector)
	if !ok {
		t.Fatalf("%T describes nothing", metrics.Registry)
	}
	known := slices.Concat(metricNames(t, ours), metricNames(t, libraries), []string{"apiserver_admission_webhook_rejection_count"})

	var told []string
	for _, name := range regexp.MustCompile(`\b(berth|controller_runtime|leader_election|workqueue|rest_client|process|go|apiserver)_[a-z0-9_]+`).FindAllString(string(page), -1) {
		name = strings.TrimSuffix(name, "_bucket")
		if strings.HasPrefix(name, "berth_") {
			told = append(told, name)
		}
		if !slices.Contains(known, name) {
			t.Errorf("operations.md tells of a metric '%s', which does not exist", name)
		}
	}
	slices.Sort(told)
	if diff := cmp.Diff(metricNames(t, ours), slices.Compact(told)); diff != "" {
		t.Errorf("operations.md (-code +page):\n%s", diff)
	}
}
