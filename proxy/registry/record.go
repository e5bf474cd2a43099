package registry

import (
	"log/slog"
	"net/http"
	"time"
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

// recorder is a response on its way to the client, with what the log tells of it.
type recorder struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	body     *incoming // nil: there is none, or the server deals with it
	deadline time.Time
	status   int
	bytes    int64
}

func newRecorder(w http.ResponseWriter, patience time.Duration) *recorder {
	return &recorder{ResponseWriter: w, control: http.NewResponseController(w), patience: patience}
}

// WriteHeader implements http.ResponseWriter. Informational responses stop
// here: their headers come from the registry, and nobody has looked at them.
func (w *recorder) WriteHeader(status int) {
	if status < http.StatusOK {
		return
	}
	if w.status == 0 {
		w.status = status
	}
	if w.body != nil && !w.body.whole() {
		// What is left of the body may not be taken for the next request.
		w.Header().Set("Connection", "close")
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer. The client may take its time for the whole, but
// not stand still. The server clears the deadline before the next request.
func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.extend(time.Now())
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// extend gives the client its time anew. A deadline costs more than many a write, so one that is still far is left.
func (w *recorder) extend(now time.Time) {
	if w.deadline.Sub(now) > w.patience*3/4 {
		return
	}
	w.deadline = now.Add(w.patience)
	_ = w.control.SetWriteDeadline(w.deadline) // a writer that knows no deadlines needs none
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// log writes the one line of an exchange.
func (x *exchange) log(now time.Time) {
	attributes := make([]slog.Attr, 0, 14)
	add := func(key, value string) {
		if value != "" {
			attributes = append(attributes, slog.String(key, value))
		}
	}
	add(keyMethod, x.request.Method)
	add(keySource, source(x.request))
	add(keyNamespace, x.caller.Namespace)
	if x.target.Kind != "" {
		add(keyConnector, x.target.Connector.String())
		add(keyAction, string(x.action))
		add(keyRepository, x.target.Repository)
	}
	if x.target.Kind == KindAPI {
		add(keyPath, x.target.Reference)
	}
	attributes = append(attributes, slog.Int(keyStatus, x.status()), slog.Int64(keyBytesOut, x.writer.bytes), slog.Int64(keyDuration, now.Sub(x.begun).Milliseconds()))
	if x.body != nil {
		attributes = append(attributes, slog.Int64(keyBytesIn, x.body.bytes.Load()))
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
