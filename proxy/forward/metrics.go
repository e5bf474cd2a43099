package forward

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"berth.dev/berth/access"
)

const metricsPrefix = "berth_forward_"

// The labels. A Connector stands in them only if it exists, so that no client
// can make up series; neither a host, a repository nor a caller ever does.
const (
	labelNamespace = "connector_namespace"
	labelConnector = "connector"
	labelAction    = "action"
	labelStatus    = "status"
	labelReason    = "reason"
	labelDirection = "direction"
	labelKind      = "kind"
)

// The kinds of what goes to other hosts than a Connector's.
const (
	kindTunnel  = "tunnel"
	kindPlain   = "plain"
	kindRefused = "refused"
)

// metrics are what Prometheus is told.
type metrics struct {
	requests *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	others   *prometheus.CounterVec
	carried  *prometheus.CounterVec
	refusals *prometheus.CounterVec
}

// newMetrics registers the metrics; without a registerer they are kept for nobody.
func newMetrics(registerer prometheus.Registerer, taken *places) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "requests_total", Help: "Requests within intercepted tunnels, by Connector, action and status; 499 is a client that left.",
		}, []string{labelNamespace, labelConnector, labelAction, labelStatus}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "bytes_total", Help: "Bytes of their bodies, from clients (in) and to them (out).",
		}, []string{labelNamespace, labelConnector, labelDirection}),
		others: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "others_total", Help: "What clients asked for beside Connectors: tunnels that ended, plain requests, and what was refused, by status.",
		}, []string{labelKind, labelStatus}),
		carried: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "others_bytes_total", Help: "Bytes that went through tunnels and plain requests beside Connectors.",
		}, []string{labelKind, labelDirection}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "refusals_total", Help: "Requests that Berth answered itself, within tunnels and beside them, by Connector and reason (docs/reasons.md).",
		}, []string{labelNamespace, labelConnector, labelReason}),
	}
	if registerer != nil {
		registerer.MustRegister(m.requests, m.bytes, m.others, m.carried, m.refusals, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: metricsPrefix + "tunnels", Help: "Tunnels and plain requests that stand.",
		}, func() float64 { return float64(taken.inUse()) }))
	}
	return m
}

// count adds a request that has its answer.
func (m *metrics) count(x *exchange) {
	namespace, name := labels(x.connector)
	m.requests.WithLabelValues(namespace, name, string(x.action), strconv.Itoa(x.status())).Inc()
	m.bytes.WithLabelValues(namespace, name, "out").Add(float64(x.writer.Bytes))
	if x.body != nil {
		m.bytes.WithLabelValues(namespace, name, "in").Add(float64(x.body.Bytes()))
	}
}

// refuse adds a refusal. A client that left was refused nothing.
func (m *metrics) refuse(c *access.Connector, reason string) {
	if reason == ReasonClientGone {
		return
	}
	namespace, name := labels(c)
	m.refusals.WithLabelValues(namespace, name, reason).Inc()
}

// labels are empty where there is no Connector.
func labels(c *access.Connector) (namespace, name string) {
	if c == nil {
		return "", ""
	}
	return c.Namespace, c.Name
}

// other adds what went to other hosts.
func (m *metrics) other(kind string, status int, in, out int64) {
	m.others.WithLabelValues(kind, strconv.Itoa(status)).Inc()
	m.carried.WithLabelValues(kind, "in").Add(float64(in))
	m.carried.WithLabelValues(kind, "out").Add(float64(out))
}
