package forward

import (
	"log/slog"
	"time"
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

// log writes the one line of an exchange.
func (x *exchange) log(now time.Time) {
	attributes := x.visit.attributes()
	attributes[0] = slog.String(keyMethod, x.request.Method)
	add := func(key, value string) {
		if value != "" {
			attributes = append(attributes, slog.String(key, value))
		}
	}
	if x.connector != nil {
		add(keyConnector, x.connector.String())
	}
	add(keyAction, string(x.action))
	add(keyRepository, x.endpoint.Repository)
	if x.own {
		attributes = append(attributes, slog.Bool(keyOwn, true))
	}
	attributes = append(attributes, slog.Int(keyStatus, x.status()), slog.Int64(keyBytesOut, x.writer.Bytes), slog.Int64(keyDuration, now.Sub(x.begun).Milliseconds()))
	if x.body != nil {
		attributes = append(attributes, slog.Int64(keyBytesIn, x.body.Bytes()))
	}
	if x.upstreamStatus != 0 {
		attributes = append(attributes, slog.Int(keyUpstream, x.upstreamStatus))
	}
	add(keyReason, x.reason)
	if x.cause != nil {
		add(keyError, x.cause.Error())
	}
	x.Log.LogAttrs(x.request.Context(), slog.LevelInfo, "forward request", attributes...)
}

// status is the answer's, for the log.
func (x *exchange) status() int {
	if x.reason == ReasonClientGone {
		return statusClientGone
	}
	return x.writer.Status
}
