package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAccessLog(t *testing.T) {
	var out bytes.Buffer
	handler := accessLog(&out)(nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Authorization")
		http.Error(w, "no", http.StatusUnauthorized)
	}))
	request := httptest.NewRequest(http.MethodGet, "/v2/team/app/manifests/v1?ns=x", nil)
	request.SetBasicAuth("robot$berth", "secret")
	request.Header.Set("User-Agent", "test/1")
	handler.ServeHTTP(httptest.NewRecorder(), request)

	var got access
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	got.Time, got.Seconds = got.Time.UTC().Truncate(0), 0
	want := access{
		Time: got.Time, Remote: request.RemoteAddr, Scheme: "Basic", User: "robot$berth", Method: "GET",
		URI: "/v2/team/app/manifests/v1?ns=x", Host: "example.com", UserAgent: "test/1", Status: 401, Sent: 3,
	}
	if got != want {
		t.Errorf("\ngot  %+v\nwant %+v", got, want)
	}
	if bytes.Contains(out.Bytes(), []byte("secret")) {
		t.Error("the password is in the log")
	}
}
