package registry

import (
	"time"

	"berth.dev/berth/proxy/identity"
)

// The keys of the access log. No header, token or query string ever stands under any of them.
const (
	keyMethod     = "method"
	keySource     = "source"
	keyNamespace  = "namespace"
	keyConnector  = "connector"
	keyAction     = "action"
	keyRepository = "repository"
	keyPath       = "path"
	keyStatus     = "status"
	keyBytesIn    = "bytes_in"
	keyBytesOut   = "bytes_out"
	keyDuration   = "duration_ms"
	keyUpstream   = "upstream_status"
	keyReason     = "reason"
	keyError      = "error"
)

// log writes the one line of an exchange.
func (x *exchange) log(now time.Time) {
	line := x.Access.Line(now, "registry request")
	line.Text(keyMethod, x.request.Method)
	line.Text(keySource, identity.Source(x.request))
	line.Text(keyNamespace, x.caller.Namespace)
	if x.target.Kind != "" {
		line.Text(keyConnector, x.target.Connector.String())
		line.Text(keyAction, string(x.action))
		line.Text(keyRepository, x.target.Repository)
	}
	if x.target.Kind == KindAPI {
		line.Text(keyPath, x.target.Reference)
	}
	line.Number(keyStatus, int64(x.status()))
	line.Number(keyBytesOut, x.writer.Bytes)
	line.Number(keyDuration, now.Sub(x.begun).Milliseconds())
	if x.body != nil {
		line.Number(keyBytesIn, x.body.Bytes())
	}
	if x.upstreamStatus != 0 {
		line.Number(keyUpstream, int64(x.upstreamStatus))
	}
	line.Text(keyReason, x.reason)
	line.Failure(keyError, x.cause)
	line.Write()
}
