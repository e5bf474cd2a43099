package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"berth.dev/berth/proxy/forward"
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

// TestListens: a server is not ready before each of its fronts listens.
func TestListens(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	registries := func(plain string) (func(context.Context) error, *atomic.Bool) {
		s := &server{
			serveOptions: serveOptions{registryAddress: "127.0.0.1:0", httpAddress: plain}, handler: http.NotFoundHandler(),
			certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil },
		}
		return s.Start, &s.listens
	}
	forwarding := func(address string) (func(context.Context) error, *atomic.Bool) {
		s := &forwardServer{address: address, options: forward.Options{Log: slog.New(slog.DiscardHandler)}}
		return s.Start, &s.listens
	}
	for name, front := range map[string]func(address string) (start func(context.Context) error, listens *atomic.Bool){
		"registries": registries, "forward": forwarding,
	} {
		t.Run(name, func(t *testing.T) {
			start, listens := front(taken.Addr().String())
			if err := start(t.Context()); err == nil || listens.Load() {
				t.Errorf("with an address that is taken: %v, listens: %t", err, listens.Load())
			}
			start, listens = front("127.0.0.1:0")
			if listens.Load() {
				t.Error("it listens before it was started")
			}
			ctx, end := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- start(ctx) }()
			if err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, patience, true, func(context.Context) (bool, error) { return listens.Load(), nil }); err != nil {
				t.Error("it does not listen")
			}
			end()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	listening := false
	answers := health(map[string]func() bool{"registries-listen": func() bool { return listening }})
	for _, tc := range []struct {
		listening      bool
		healthy, ready int
	}{{false, 200, 500}, {true, 200, 200}} {
		listening = tc.listening
		for path, want := range map[string]int{"/healthz": tc.healthy, "/readyz": tc.ready, "/readyz/registries-listen": tc.ready, "/": 404} {
			w := httptest.NewRecorder()
			answers.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != want {
				t.Errorf("listening: %t, '%s' answers %d, want %d", listening, path, w.Code, want)
			}
		}
	}
}
