package loopback

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
)

// Serve serves a handler of the test over TLS, and returns its address.
func (s *Site) Serve(h http.Handler) string {
	s.Helper()
	return strings.Replace(s.ServeAt("127.0.0.1:0", h), "127.0.0.1", "localhost", 1)
}

// ServeAt is Serve at an address and port of this machine.
func (s *Site) ServeAt(address string, h http.Handler) string {
	s.Helper()
	listener, err := (&net.ListenConfig{}).Listen(s.Context(), "tcp", address)
	s.OK(err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: h}}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{s.Authority.Issue()}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that come and go are part of the tests
	server.StartTLS()
	s.Cleanup(server.Close)
	return server.URL
}
