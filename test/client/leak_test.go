package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/test/leak"
	"berth.dev/berth/test/loopback"
)

// TestNothingToTake: whatever clients get through Berth, by either door, opens nothing at the registry.
func TestNothingToTake(t *testing.T) {
	for kind, start := range upstreams() {
		t.Run(kind, func(t *testing.T) {
			site := loopback.New(t)
			r := start(site)
			c := &collector{scene: scene{Site: site, upstream: r, root: "taken"}, there: site.Client(), berth: site.Forward(map[string]loopback.Connector{kind: {Registry: r}})}
			c.seed("app", "v1")
			if !c.opens(c.good()) {
				t.Fatal("not even what is good opens anything, so that nothing could be found")
			}
			c.asks(c.forward(), r.Address+"/v2/taken/", r.Address)
			c.asks(c.reverse(), c.berth.HTTPS+loopback.API(kind)+"taken/", c.berth.HTTPS)
			for _, status := range []string{"200 OK", "403 Forbidden"} {
				if !strings.Contains(c.got.String(), status) {
					t.Errorf("no answer is '%s'", status)
				}
			}
			if form := leak.Find(c.got.String(), leak.Forms(r.Username, r.Password)); form != "" {
				t.Errorf("the credential stands in an answer, as '%s'", form)
			}
			for _, candidate := range leak.Candidates(c.got.String()) {
				if c.opens(candidate) {
					t.Errorf("the registry takes '%s'", candidate)
				}
			}
		})
	}
}

// collector keeps what clients of a Berth get.
type collector struct {
	scene

	berth *loopback.Berth
	// there is a client of the registry itself.
	there *http.Client
	got   strings.Builder
}

// forward is a client of the forward proxy, with its token in the proxy's URL.
func (c *collector) forward() *http.Client {
	c.Helper()
	intercepted, err := os.ReadFile(filepath.Join(c.berth.Interception, v1alpha1.FileCA))
	c.OK(err)
	proxy := &url.URL{Scheme: "http", Host: c.berth.Forward, User: url.UserPassword("berth", c.berth.Token(loopback.Namespace, "proxy"))}
	return c.client(append(intercepted, c.Authority.PEM...), &http.Transport{Proxy: http.ProxyURL(proxy)})
}

// reverse is a client of the reverse proxy, with its token in each request.
func (c *collector) reverse() *http.Client {
	c.Helper()
	client := c.client(c.berth.Authority.PEM, &http.Transport{})
	client.Transport = signing{client.Transport, c.berth.Token(loopback.Namespace, "proxy")}
	return client
}

func (c *collector) client(authorities []byte, transport *http.Transport) *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authorities)
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	c.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// signing signs a client in, unless it does so by itself.
type signing struct {
	http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (s signing) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") == "" {
		r = r.Clone(r.Context())
		r.SetBasicAuth("any", s.token)
	}
	return s.RoundTripper.RoundTrip(r)
}

// asks sends requests for whatever a client may hope to get a credential by, and keeps the answers.
func (c *collector) asks(client *http.Client, repositories, origin string) {
	c.Helper()
	const scope = "?service=registry+of+the+site&scope=repository:taken/app:pull,push"
	requests := []string{
		"GET " + origin + "/v2/", "GET " + origin + "/v2/_catalog", "GET " + origin + "/service/token" + scope, "GET " + origin + "/token" + scope, "GET " + origin + "/v2/token" + scope,
		"POST " + origin + "/c/login", "GET " + origin + "/api/v2.0/users/current", "POST " + origin + "/api/v2.0/robots", "GET " + origin + "/api/v2.0/replication/policies",
	}
	if c.upstream.Tokens != nil {
		requests = append(requests, "GET "+c.upstream.Realm()+scope) // through the forward proxy that is a tunnel
	}
	for _, path := range []string{"app/manifests/v1", "app/manifests/none", "none/manifests/v1", "app/tags/list", "app/tags/list?n=1", "app/blobs/sha256:" + strings.Repeat("0", 64), "../app/manifests/v1"} {
		requests = append(requests, "GET "+repositories+path, "HEAD "+repositories+path)
	}
	for _, request := range append(requests, "POST "+repositories+"app/blobs/uploads/", "DELETE "+repositories+"app/manifests/none", "PUT "+repositories+"app/manifests/v1") {
		method, address, _ := strings.Cut(request, " ")
		for name, value := range map[string]string{"X-Nothing": "", "Authorization": "Basic bm9ib2R5OnBhc3N3b3Jk", "Cookie": "sid=1"} {
			r, err := http.NewRequestWithContext(c.Context(), method, address, nil)
			c.OK(err)
			r.Header.Set(name, value)
			response, err := client.Do(r)
			if err != nil { // another origin than the proxy speaks for
				c.got.WriteString(err.Error() + "\n")
				continue
			}
			text, err := httputil.DumpResponse(response, true)
			c.OK(err)
			c.OK(response.Body.Close())
			c.got.Write(append(text, '\n'))
		}
	}
}

// good is what opens the registry: the password, or a token of its token service.
func (c *collector) good() string {
	c.Helper()
	if c.upstream.Tokens == nil {
		return c.upstream.Password
	}
	r, err := http.NewRequestWithContext(c.Context(), http.MethodGet, c.upstream.Realm()+"?service=registry+of+the+site&scope=repository:taken/app:pull", nil)
	c.OK(err)
	r.SetBasicAuth(c.upstream.Username, c.upstream.Password)
	response, err := c.Client().Do(r)
	c.OK(err)
	defer func() { _ = response.Body.Close() }()
	var given struct{ Token string }
	c.OK(json.NewDecoder(response.Body).Decode(&given))
	return given.Token
}

// opens reports whether the registry takes a candidate, straight and in any way to sign in.
func (c *collector) opens(candidate string) bool {
	c.Helper()
	attempts, err := leak.Attempts(c.Context(), c.upstream.Address+"/v2/taken/app/tags/list", candidate, c.upstream.Username)
	c.OK(err)
	for _, r := range attempts {
		response, err := c.there.Do(r)
		c.OK(err)
		_, err = io.Copy(io.Discard, response.Body)
		c.OK(err)
		c.OK(response.Body.Close())
		if response.StatusCode != http.StatusUnauthorized {
			return true
		}
	}
	return false
}
