package csi

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api/v1alpha1"
)

// certificate is one for a name, and signs itself.
func certificate(t testing.TB, name string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// serve is a proxy with a certificate for that name, and a source that asks it.
func serve(t testing.TB, name string, handler http.HandlerFunc) (*Source, *Proxy) {
	t.Helper()
	leaf, ca := certificate(t, name)
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	at := netip.MustParseAddrPort(strings.TrimPrefix(server.URL, "https://"))
	proxy := &Proxy{Addresses: []netip.Addr{at.Addr()}, Port: at.Port(), CACert: ca}
	s := NewSource(nil)
	s.proxy = func(context.Context) (Proxy, error) { return *proxy, nil }
	return s, proxy
}

// TestSource: what the proxy is asked.
func TestSource(t *testing.T) {
	t.Parallel()
	var seen []string
	s, proxy := serve(t, proxyName, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.TLS.ServerName+" "+r.URL.String()+" "+r.Header.Get("Authorization")+" "+r.Header.Get("If-None-Match"))
		if r.Header.Get("If-None-Match") == `"g"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_ = cbor.NewEncoder(w).Encode(v1alpha1.Files{Generation: "g", Files: map[string][]byte{"a": []byte("b")}})
	})
	query := url.Values{"connectors": {"demo/harbor,x"}}
	first, err := s.Files(t.Context(), "t", "", query)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&v1alpha1.Files{Generation: "g", Files: map[string][]byte{"a": []byte("b")}}, first); diff != "" {
		t.Errorf("the files (-want +got):\n%s", diff)
	}
	if again, err := s.Files(t.Context(), "t", "g", query); again != nil || err != nil {
		t.Errorf("again: %v, %v", again, err)
	}
	const asked = "GET " + proxyName + " /configuration/v1/files?connectors=demo%2Fharbor%2Cx Bearer t "
	if diff := cmp.Diff([]string{asked, asked + `"g"`}, seen); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	proxy.Addresses = append([]netip.Addr{netip.MustParseAddr("127.0.0.99")}, proxy.Addresses...)
	if _, err := s.Files(t.Context(), "t", "", nil); err != nil {
		t.Errorf("one of two addresses answers: %v", err)
	}
}

// TestSourceFails: what is said where the proxy has no good answer, or is not the proxy.
func TestSourceFails(t *testing.T) {
	t.Parallel()
	body := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		}
	}
	encoded := func(answer any) string {
		text, err := cbor.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	whole := encoded(v1alpha1.Files{Files: map[string][]byte{"very-secret-token": []byte("very-secret")}})
	for name, tc := range map[string]struct {
		name    string
		handler http.HandlerFunc
		change  func(*Proxy)
		status  int // of a Refusal
		says    string
	}{
		"refused":          {proxyName, body(403, encoded(v1alpha1.FilesError{Message: "no access"})), nil, 403, "no access"},
		"older proxy":      {proxyName, body(404, `404 page not found`), nil, 404, "are the proxy and the node plugin of one version?"},
		"redirect":         {proxyName, body(307, ``), nil, 307, "307"},
		"cut off":          {proxyName, body(200, whole[:len(whole)-1]), nil, 0, "cut off, or no CBOR"},
		"another name":     {"c-harbor.demo.svc", body(200, `{}`), nil, 0, "certificate is valid for c-harbor.demo.svc, not " + proxyName},
		"another CA":       {proxyName, body(200, `{}`), func(p *Proxy) { _, p.CACert = certificate(t, proxyName) }, 0, "signed by unknown authority"},
		"no CA in it":      {proxyName, body(200, `{}`), func(p *Proxy) { p.CACert = []byte("x") }, 0, "holds no certificate"},
		"nobody listens":   {proxyName, body(200, `{}`), func(p *Proxy) { p.Port = 1 }, 0, "is it running?"},
		"not known at all": {proxyName, body(200, `{}`), func(p *Proxy) { p.Addresses = nil }, 0, "does not know yet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, proxy := serve(t, tc.name, tc.handler)
			if tc.change != nil {
				tc.change(proxy)
			}
			_, err := s.Files(t.Context(), "very-secret-token", "g", nil)
			var refusal *Refusal
			if err == nil || !strings.Contains(err.Error(), tc.says) || errors.As(err, &refusal) != (tc.status != 0) || refusal != nil && refusal.Status != tc.status {
				t.Errorf("%v, want %d and '%s'", err, tc.status, tc.says)
			}
			if err != nil && strings.Contains(err.Error(), "very-secret") {
				t.Errorf("the token: %v", err)
			}
		})
	}
}

// TestContents: what another volume has already brought is not asked for again, over one connection.
func TestContents(t *testing.T) {
	t.Parallel()
	great, small := bytes.Repeat([]byte("x"), greatContent), []byte("small")
	digest := v1alpha1.FilesDigest(great)
	var from []string
	s, _ := serve(t, proxyName, func(w http.ResponseWriter, r *http.Request) {
		from = append(from, r.RemoteAddr)
		answer := v1alpha1.Files{Generation: "g", Files: map[string][]byte{"bundle": great, "token": small}}
		switch have := r.Header.Get(v1alpha1.FilesHave); {
		case r.URL.Query().Has("lie"):
			answer.Same = map[string]string{"store": v1alpha1.FilesDigest(small)}
		case have == digest:
			delete(answer.Files, "bundle")
			answer.Same = map[string]string{"bundle": digest}
		case have != "":
			t.Errorf("the node has: %s", have)
		}
		_ = cbor.NewEncoder(w).Encode(answer)
	})
	for range 3 {
		files, err := s.Files(t.Context(), "t", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string][]byte{"bundle": great, "token": small}, files.Files); diff != "" {
			t.Fatalf("the files (-want +got):\n%s", diff)
		}
	}
	if len(from) != 3 || from[0] != from[1] || from[0] != from[2] {
		t.Errorf("the connections come from %v, want one", from)
	}
	if files, err := s.Files(t.Context(), "t", "", url.Values{"lie": {""}}); err == nil || !strings.Contains(err.Error(), `"store"`) {
		t.Errorf("of what nobody has: %v, %v", files, err)
	}
}

// TestContentsAreFew: memory is not for the proxy to fill.
func TestContentsAreFew(t *testing.T) {
	t.Parallel()
	s := NewSource(nil)
	for i := range 2 * mostContents {
		content := bytes.Repeat([]byte{byte(i)}, greatContent)
		if err := s.complete(&v1alpha1.Files{Files: map[string][]byte{"a": content, "b": content[1:]}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(s.have()); got != mostContents {
		t.Errorf("%d contents are remembered, want %d", got, mostContents)
	}
}
