package registry

import (
	"log/slog"
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
	attributes := make([]slog.Attr, 0, 14)
	add := func(key, value string) {
		if value != "" {
			attributes = append(attributes, slog.String(key, value))
		}
	}
	add(keyMethod, x.request.Method)
	add(keySource, identity.Source(x.request))
	add(keyNamespace, x.caller.Namespace)
	if x.target.Kind != "" {
		add(keyConnector, x.target.Connector.String())
		add(keyAction, string(x.action))
		add(keyRepository, x.target.Repository)
	}
	if x.target.Kind == KindAPI {
		add(keyPath, x.target.Reference)
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
	x.Log.LogAttrs(x.request.Context(), slog.LevelInfo, "registry request", attributes...)
}
