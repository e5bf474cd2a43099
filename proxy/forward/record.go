package forward

import (
	"time"

	"berth.dev/berth/proxy/accesslog"
	"berth.dev/berth/proxy/identity"
)

// The keys of the access log. No header, token, query string or path of another host ever stands under any of them.
const (
	keyMethod     = "method"
	keySource     = "source"
	keyNamespace  = "namespace"
	keyTarget     = "target"
	keyConnector  = "connector"
	keyAction     = "action"
	keyRepository = "repository"
	keyOwn        = "own_login"
	keyStatus     = "status"
	keyBytesIn    = "bytes_in"
	keyBytesOut   = "bytes_out"
	keyDuration   = "duration_ms"
	keyUpstream   = "upstream_status"
	keyReason     = "reason"
	keyError      = "error"
)

// line begins one about a visit, and what was asked for by the method. The path of a request is none of it: it may hold a secret.
func (v *visit) line(now time.Time, message, method string) accesslog.Line {
	line := v.Access.Line(now, message)
	line.Text(keyMethod, method)
	line.Text(keySource, identity.Source(v.request))
	line.Text(keyNamespace, v.caller.Namespace)
	if v.target.Host != "" {
		line.Text(keyTarget, v.target.Host+":"+v.target.Port)
	}
	return line
}

// log writes the one line of an exchange.
func (x *exchange) log(now time.Time) {
	line := x.visit.line(now, "forward request", x.request.Method)
	if x.connector != nil {
		line.Text(keyConnector, x.connector.String())
	}
	line.Text(keyAction, string(x.action))
	line.Text(keyRepository, x.endpoint.Repository)
	if x.own {
		line.True(keyOwn)
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

// status is the answer's, for the log.
func (x *exchange) status() int {
	if x.reason == ReasonClientGone {
		return statusClientGone
	}
	return x.writer.Status
}
