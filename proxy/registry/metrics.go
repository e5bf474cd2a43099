package registry

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

const metricsPrefix = "berth_proxy_"

// The labels. A Connector stands in them only if it exists, so that no client
// can make up series; neither a repository nor a caller ever does.
const (
	labelNamespace = "connector_namespace"
	labelConnector = "connector"
	labelAction    = "action"
	labelStatus    = "status"
	labelReason    = "reason"
	labelDirection = "direction"
)

// metrics are what Prometheus is told.
type metrics struct {
	requests  *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	durations *prometheus.HistogramVec
	failures  *prometheus.CounterVec
	inFlight  prometheus.Gauge
}

// newMetrics registers the metrics; without a registerer they are kept for nobody.
func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "requests_total", Help: "Requests for registries, by Connector, action and status; 499 is a client that left.",
		}, []string{labelNamespace, labelConnector, labelAction, labelStatus}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "bytes_total", Help: "Bytes of bodies, from clients (in) and to them (out).",
		}, []string{labelNamespace, labelConnector, labelDirection}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: metricsPrefix + "request_duration_seconds", Help: "How long requests took, their bodies included.",
			Buckets: []float64{.005, .025, .1, .5, 1, 5, 30, 120, 600},
		}, []string{labelAction}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "upstream_errors_total", Help: "Requests that registries gave no usable answer to, by reason (docs/reasons.md).",
		}, []string{labelNamespace, labelConnector, labelReason}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: metricsPrefix + "requests_in_flight", Help: "Requests for registries that have no whole answer yet.",
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.requests, m.bytes, m.durations, m.failures, m.inFlight)
	}
	return m
}

// count adds a request that has its answer.
func (m *metrics) count(x *exchange, seconds float64) {
	var namespace, name string
	if x.connector != nil {
		namespace, name = x.connector.Namespace, x.connector.Name
	}
	m.requests.WithLabelValues(namespace, name, string(x.action), strconv.Itoa(x.status())).Inc()
	m.durations.WithLabelValues(string(x.action)).Observe(seconds)
	m.bytes.WithLabelValues(namespace, name, "out").Add(float64(x.writer.Bytes))
	if x.body != nil {
		m.bytes.WithLabelValues(namespace, name, "in").Add(float64(x.body.Bytes()))
	}
	if x.farFailed {
		m.failures.WithLabelValues(namespace, name, x.reason).Inc()
	}
}
