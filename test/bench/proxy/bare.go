package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httputil"
	"os"
	"time"
)

// noHTTP2 keeps a server to HTTP/1.1.
func noHTTP2() map[string]func(*http.Server, *tls.Conn, http.Handler) {
	return map[string]func(*http.Server, *tls.Conn, http.Handler){}
}

// playBare is httputil.ReverseProxy with the least around it that does the duty.
func playBare(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bare", flag.ContinueOnError)
	plain, secure := flags.String("plain", "", ""), flags.String("tls", "", "")
	upstream, ca := flags.String("upstream", "", ""), flags.String("ca", "", "")
	certificate, key := flags.String("certificate", "", ""), flags.String("key", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	roots, err := pool(*ca)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "https", *upstream, *upstream
			r.Out.SetBasicAuth(username, password)
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 1024},
	}
	server := &http.Server{Addr: *plain, Handler: proxy, ReadHeaderTimeout: time.Minute}
	front := &http.Server{Addr: *secure, Handler: proxy, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = errors.Join(server.Close(), front.Close()) })
	failed := make(chan error, 2)
	go func() { failed <- server.ListenAndServe() }()
	go func() { failed <- front.ListenAndServeTLS(*certificate, *key) }()
	return <-failed
}

// pool is the authorities in a PEM file.
func pool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("'%s' holds no certificate", file)
	}
	return roots, nil
}
