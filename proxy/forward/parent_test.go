package forward

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"berth.dev/berth/egress"
)

// Plain requests are sent by the parent proxy as what they are, with its credential and not with the client's; tunnels
// by CONNECT. A parent that fails is told as that, and nothing that it says comes down.
func TestParent(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	status := http.StatusOK
	parent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		user, password, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
		asked = append(asked, r.Method+" "+r.RequestURI+" "+user+":"+password)
		w.Header().Set("Proxy-Authenticate", `Basic realm="parent-realm"`)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "by the parent")
	}))
	t.Cleanup(parent.Close)
	led, err := egress.NewParent(parent.URL, nil, func() (string, error) { return "berth:parent-password", nil })
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(o *Options) {
		way, _ := o.Egress.(*egress.Way)
		way.Parent = func() *egress.Parent { return led }
		dial := way.Dial
		way.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == parent.Listener.Addr().String() {
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}
			return dial(ctx, network, address)
		}
	})
	get := func(url string) (int, string) {
		response, err := w.client("demo").Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body) + response.Header.Get("Proxy-Authenticate")
	}
	if status, body := get("http://plain.example.net/a?b=c"); status != 200 || body != "by the parent" {
		t.Errorf("a plain request: %d %q", status, body)
	}
	if status, _ := w.dial("demo", evilAt); status != 200 {
		t.Errorf("a tunnel: %d", status)
	}
	if status, _ := get("http://169.254.169.254/latest"); status != 403 {
		t.Errorf("the metadata service: %d", status)
	}
	mu.Lock()
	status = http.StatusProxyAuthRequired
	mu.Unlock()
	if status, body := get("http://plain.example.net/a"); status != 502 || strings.Contains(body, "parent-realm") || strings.Contains(body, "by the parent") {
		t.Errorf("a plain request that the parent refuses: %d %q", status, body)
	}
	if status, c := w.dial("demo", evilAt); status != 502 || c.response.Header.Get("Proxy-Authenticate") != "" {
		t.Errorf("a tunnel that the parent refuses: %d", status)
	}
	w.log.has(t, ReasonParentFailed)
	mu.Lock()
	defer mu.Unlock()
	want := "GET http://plain.example.net/a?b=c berth:parent-password\nCONNECT evil.example.net:443 berth:parent-password\n" +
		"GET http://plain.example.net/a berth:parent-password\nCONNECT evil.example.net:443 berth:parent-password"
	if got := strings.Join(asked, "\n"); got != want {
		t.Errorf("the parent was asked:\n%s\nwant:\n%s", got, want)
	}
	if strings.Contains(w.log.String(), "parent-password") {
		t.Error("the log holds the parent's password")
	}
}
