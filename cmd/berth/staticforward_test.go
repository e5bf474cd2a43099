package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func (p *staticProxy) interception() string {
	return filepath.Join(filepath.Dir(p.directory), "interception")
}

// forwarded is a client with nothing but the forward proxy, its token in the URL, and what it is to trust.
func (p *staticProxy) forwarded(t *testing.T, namespace, audience string) *http.Client {
	t.Helper()
	line := p.log.await(t, func(line map[string]any) bool { return line["msg"] == "serve the forward proxy" })
	token := strings.TrimSpace(p.token(t, "--namespace", namespace, "--uid", "u-1234", "--audience", audience))
	proxy := &url.URL{Scheme: "http", Host: line["address"].(string), User: url.UserPassword("berth", token)}
	authorities, err := os.ReadFile(filepath.Join(p.interception(), "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authorities)
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (p *staticProxy) testForward(t *testing.T, b *behind) {
	t.Helper()
	response, err := p.forwarded(t, "shop", "proxy").Get(b.URL + "/v2/team/app/manifests/v1")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK || len(body) == 0 {
		t.Errorf("status %d, %d bytes, %v", response.StatusCode, len(body), err)
	}
	_, err = p.forwarded(t, "shop", "pull").Get(b.URL + "/v2/team/app/manifests/v1")
	if err == nil || !strings.Contains(err.Error(), "Proxy Authentication Required") {
		t.Errorf("with a token for pulls: %v", err)
	}
}
