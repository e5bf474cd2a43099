package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry"
	"github.com/felixge/httpsnoop"
)

// access is one line of the access log.
type access struct {
	Time      time.Time `json:"time"`
	Remote    string    `json:"remote"`         // address and port
	Scheme    string    `json:"auth,omitempty"` // Basic or Bearer, if there was an Authorization
	User      string    `json:"user,omitempty"` // as claimed by Basic; the status says whether it was true
	Method    string    `json:"method"`
	URI       string    `json:"uri"`
	Host      string    `json:"host"`
	UserAgent string    `json:"userAgent"`
	Status    int       `json:"status"`
	Received  int64     `json:"received"` // bytes, as announced; -1 if not
	Sent      int64     `json:"sent"`     // bytes of the body
	Seconds   float64   `json:"seconds"`
}

// accessLog wraps the registry so that each request is told on out when it
// has been answered.
func accessLog(out io.Writer) registry.HandlerFunc {
	var mu sync.Mutex
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	return func(_ *configuration.Configuration, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			line := describe(r)
			result := httpsnoop.CaptureMetrics(next, w, r)
			line.Status, line.Sent, line.Seconds = result.Code, result.Written, result.Duration.Seconds()
			mu.Lock()
			defer mu.Unlock()
			if err := lines.Encode(line); err != nil {
				panic(http.ErrAbortHandler) // nobody would know of the request
			}
		})
	}
}

// describe says what is known before the answer. It must run first: handlers
// change the request.
func describe(r *http.Request) access {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	user, _, _ := r.BasicAuth()
	return access{
		Time: time.Now().UTC(), Remote: r.RemoteAddr, Scheme: scheme, User: user, Method: r.Method,
		URI: r.RequestURI, Host: r.Host, UserAgent: r.UserAgent(), Received: r.ContentLength,
	}
}
