package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestParting(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	defer end()
	answers := parting(ctx, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	for _, want := range []string{"", "close"} {
		w := httptest.NewRecorder()
		answers.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v2/", nil))
		if got := w.Header().Get("Connection"); got != want {
			t.Errorf("Connection '%s', want '%s'", got, want)
		}
		end()
	}
}
