package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/elazarl/goproxy"
)

// playMITM is goproxy's own interception with the least around it that does the duty. As it comes it keeps two
// connections to the registry, asks for gzip, and mints a certificate for each tunnel; -pooled is one that was tuned.
func playMITM(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("mitm", flag.ContinueOnError)
	address, ca := flags.String("address", "", ""), flags.String("ca", "", "")
	certificate, key := flags.String("certificate", "", ""), flags.String("key", "", "")
	pooled := flags.Bool("pooled", false, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	roots, err := pool(*ca)
	if err != nil {
		return err
	}
	authority, err := tls.LoadX509KeyPair(*certificate, *key)
	if err != nil {
		return err
	}
	proxy := goproxy.NewProxyHttpServer()
	proxy.Tr.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12} // of its own, it verifies nothing
	if *pooled {
		proxy.Tr.MaxIdleConnsPerHost, proxy.Tr.DisableCompression, proxy.KeepAcceptEncoding = 1024, true, true
		proxy.CertStore = &certificates{made: map[string]*tls.Certificate{}}
	}
	intercept := &goproxy.ConnectAction{Action: goproxy.ConnectMitm, TLSConfig: goproxy.TLSConfigFromCA(&authority)}
	proxy.OnRequest().HandleConnectFunc(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) { return intercept, host })
	proxy.OnRequest().DoFunc(func(r *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		r.SetBasicAuth(username, password)
		return r, nil
	})
	server := &http.Server{Addr: *address, Handler: proxy, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return server.ListenAndServe()
}

// certificates keep what goproxy has minted.
type certificates struct {
	mu   sync.Mutex
	made map[string]*tls.Certificate
}

// Fetch implements goproxy.CertStorage.
func (c *certificates) Fetch(host string, mint func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if made, ok := c.made[host]; ok {
		return made, nil
	}
	made, err := mint()
	if err == nil {
		c.made[host] = made
	}
	return made, err
}

// playRelay hands each connection on, as bare as that can be: the kernel moves the bytes.
func playRelay(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("relay", flag.ContinueOnError)
	address, to := flags.String("address", "", ""), flags.String("to", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go relay(ctx, conn, *to)
	}
}

func relay(ctx context.Context, client net.Conn, to string) {
	far, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		_ = client.Close()
		return
	}
	ended := make(chan struct{}, 1)
	go func() {
		_, _ = io.Copy(far, client)
		ended <- struct{}{}
	}()
	_, _ = io.Copy(client, far)
	_ = errors.Join(client.Close(), far.Close())
	<-ended
}
