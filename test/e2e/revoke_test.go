package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/test/lab"
)

const (
	// revocation is how soon a revoked token opens nothing any more.
	revocation = 5 * time.Second
	// upstreamAddress is the upstream by its address: no Connector is for that, so a tunnel there is not looked into.
	upstreamAddress = "10.77.0.10:443"
)

// TestRevoke: within seconds both proxies refuse the old tokens, tunnels that were opened with them are closed, and the
// Secrets hold new ones that are good.
func TestRevoke(t *testing.T) {
	w := enter(t)
	n := w.shop("revoke")
	name, tag, _ := strings.Cut(w.pushed(), ":")
	path := connectorPath(name + "/manifests/" + tag)
	pull, err := w.Token(w.ctx, n.Name)
	w.ok(err)
	proxy := w.proxyToken(n.Name, "")
	for what, held := range map[string]string{"pull": pull, "proxy": proxy} {
		if status, body, err := w.AskProxyWith(w.ctx, held, http.MethodGet, path); err != nil || status != 200 {
			t.Fatalf("the %s token at the reverse proxy: %d, %v: %s", what, status, err, body)
		}
	}
	status, tunnel, err := w.tunnel(proxy, upstreamAddress)
	if err != nil || status != 200 {
		t.Fatalf("a tunnel: %d, %v", status, err)
	}

	revoked := time.Now()
	w.ok(w.Client.Patch(w.ctx, n, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"2"}}}`, v1alpha1.AnnotationTokenGeneration))))
	for what, refused := range map[string]func(context.Context) (bool, error){
		"the pull token at the reverse proxy":  w.refusedByRegistry(pull, path),
		"the proxy token at the reverse proxy": w.refusedByRegistry(proxy, path),
		"the proxy token at the forward proxy": func(context.Context) (bool, error) {
			status, _, err := w.tunnel(proxy, upstreamAddress)
			return status == http.StatusProxyAuthRequired, err
		},
	} {
		w.ok(lab.Wait(w.ctx, revocation-time.Since(revoked), what+" to be refused", refused))
	}
	w.ok(tunnel.SetReadDeadline(revoked.Add(revocation)))
	if _, err := io.ReadAll(tunnel); err != nil {
		t.Errorf("the tunnel stands: %v", err)
	}
	t.Logf("all of it within %s", time.Since(revoked).Round(time.Millisecond))

	fresh := w.proxyToken(n.Name, proxy)
	w.ok(lab.Wait(w.ctx, revocation, "the new token to be good", func(ctx context.Context) (bool, error) {
		status, _, err := w.AskProxyWith(ctx, fresh, http.MethodGet, path)
		return status == 200, err
	}))
}

// refusedByRegistry asks over several connections, so that every proxy is asked.
func (w world) refusedByRegistry(held, path string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		for range 8 {
			if status, _, err := w.AskProxyWith(ctx, held, http.MethodGet, path); err != nil || status != 401 {
				return false, err
			}
		}
		return true, nil
	}
}

// proxyToken returns the namespace's token for the forward proxy, once it is another one than that.
func (w world) proxyToken(namespace, other string) (held string) {
	w.Helper()
	w.ok(lab.Wait(w.ctx, patience, "Secret 'berth-proxy'", func(ctx context.Context) (bool, error) {
		var s corev1.Secret
		err := w.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.ProxySecret}, &s)
		held = string(s.Data[v1alpha1.ProxySecretToken])
		return err == nil && held != other, err
	}))
	return held
}

// tunnel asks the forward proxy for a tunnel to a target.
func (w world) tunnel(held, target string) (status int, conn net.Conn, err error) {
	w.Helper()
	var service corev1.Service
	w.ok(w.Client.Get(w.ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyService}, &service))
	conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(w.ctx, "tcp", net.JoinHostPort(service.Spec.ClusterIP, "3128"))
	if err != nil {
		return 0, nil, err
	}
	w.Cleanup(func() { _ = conn.Close() })
	asked, err := http.NewRequestWithContext(w.ctx, http.MethodConnect, "http://"+target, nil)
	if err != nil {
		return 0, nil, err
	}
	asked.SetBasicAuth("berth", held)
	asked.Header = http.Header{"Proxy-Authorization": asked.Header["Authorization"]}
	if err := asked.Write(conn); err != nil {
		return 0, nil, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), asked)
	if err != nil {
		return 0, nil, err
	}
	return answer.StatusCode, conn, nil
}
