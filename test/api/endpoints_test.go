package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// proxyAccount is the ServiceAccount of `berth proxy`.
const proxyAccount = "berth-proxy"

// closed lets Pods go to nothing that is not named, so that nothing is dialled: what remains is which refusal it is.
const closed = `
apiVersion: connectors.berth.dev/v1alpha1
kind: Configuration
proxy: {egress: {policy: connectors, allow: [192.0.2.0/24]}}
`

// forwardProxy is `berth proxy`, with the token of its ServiceAccount and nothing else.
type forwardProxy struct {
	*process
	address string
}

func (w world) forwardProxy() forwardProxy {
	w.Helper()
	w.ok(w.identify(w.ctx, proxyAccount))
	w.ok(os.WriteFile(w.path("closed.yaml"), []byte(closed), 0o600))
	forward, health, err := freePorts(w.ctx)
	w.ok(err)
	p := forwardProxy{
		&process{program: w.berth.program, health: loopback(health), log: &lockedBuffer{}, env: append(os.Environ(), "KUBECONFIG="+w.path(proxyAccount))},
		loopback(forward),
	}
	p.args = []string{
		"proxy", "--config=" + w.path("closed.yaml"), "--health-address=" + p.health, "--metrics-address=0",
		"--registry-address=" + loopback(0), "--forward-address=" + p.address, "--leave=0s", "--drain=1s",
	}
	w.Cleanup(func() {
		w.ok(p.stop())
		if w.Failed() {
			w.Log(p.log.String())
		}
	})
	return p
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// tunnel asks for a tunnel with a namespace's token, and returns why there is none.
func (p forwardProxy) tunnel(ctx context.Context, token, target string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	r, err := http.NewRequestWithContext(ctx, http.MethodConnect, "http://"+target, nil)
	if err != nil {
		return "", err
	}
	r.SetBasicAuth("berth", token)
	r.Header = http.Header{"Proxy-Authorization": r.Header["Authorization"]}
	if err := r.Write(conn); err != nil {
		return "", err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	return fmt.Sprintf("%d %s", answer.StatusCode, text), err
}

// endpointSlice makes one of a Service, and removes it after the test.
func (w world) endpointSlice(namespace, service string, port int32, address string) *discoveryv1.EndpointSlice {
	w.Helper()
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, GenerateName: "test-", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &port}}, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}}},
	}
	if strings.Contains(address, ":") {
		s.AddressType = discoveryv1.AddressTypeIPv6
	}
	w.ok(w.client.Create(w.ctx, s))
	w.Cleanup(func() { w.ok(client.IgnoreNotFound(w.client.Delete(context.WithoutCancel(w.ctx), s))) })
	return s
}

// proxyToken is a namespace's for the forward proxy.
func (w world) proxyToken(namespace string) (token string) {
	w.Helper()
	w.ok(eventually(w.ctx, "the token", func(ctx context.Context) error {
		var s corev1.Secret
		err := w.client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: v1alpha1.ProxySecret}, &s)
		token = string(s.Data[v1alpha1.ProxySecretToken])
		return err
	}))
	return token
}

// TestEndpoints: the proxy, with the rights that the manifests give, follows where the API server and Berth run, and
// dials neither.
func TestEndpoints(t *testing.T) {
	w := enter(t)
	const first, second, third = "10.9.8.1", "10.9.8.2", "fd12:9:8::3"
	token := w.proxyToken(w.opted("endpoints").Name)
	apiServer := w.endpointSlice(metav1.NamespaceDefault, "kubernetes", 6443, first)
	w.endpointSlice(metav1.NamespaceDefault, "kubernetes", 6443, third)
	w.endpointSlice(metav1.NamespaceDefault, "other", 5000, "10.9.8.5")
	p := w.forwardProxy()
	w.ok(p.start(w.ctx))
	answers := func(what, target, says string) {
		t.Helper()
		w.ok(eventually(w.ctx, what, func(ctx context.Context) error {
			got, err := p.tunnel(ctx, token, target)
			if err == nil && !strings.Contains(got, says) {
				err = fmt.Errorf("the answer is '%s', must say '%s'", got, says)
			}
			return err
		}))
	}
	const never, policy = "403 '%s' leads to an address that Berth never dials", "403 the egress policy does not allow it: '%s'"
	answers("the proxy to answer", "10.9.8.9:443", fmt.Sprintf(policy, "10.9.8.9"))
	// What was there before it started holds with the first answer.
	for target, says := range map[string]string{first + ":6443": never, "[" + third + "]:6443": never, first + ":5000": policy, second + ":6443": policy, "10.9.8.5:5000": policy} {
		host, _, err := net.SplitHostPort(target)
		w.ok(err)
		if got, err := p.tunnel(w.ctx, token, target); err != nil || !strings.Contains(got, fmt.Sprintf(says, host)) {
			t.Errorf("%s: %s, %v; must say '%s'", target, got, err, says)
		}
	}
	berth := w.endpointSlice(v1alpha1.SystemNamespace, v1alpha1.ProxyService, 8443, "10.9.8.7")
	answers("a Pod of Berth's to be known", "10.9.8.7:8080", fmt.Sprintf(never, "10.9.8.7"))
	apiServer.Endpoints[0].Addresses[0] = second
	w.ok(w.client.Update(w.ctx, apiServer))
	answers("the new address of the API server to be known", second+":6443", fmt.Sprintf(never, second))
	answers("the old one to be forgotten", first+":6443", fmt.Sprintf(policy, first))
	w.ok(w.client.Delete(w.ctx, berth))
	answers("the Pod to be forgotten", "10.9.8.7:8080", fmt.Sprintf(policy, "10.9.8.7"))
}

// TestEndpointsWithoutTheRight: a proxy that may not read where the API server is serves nobody, and says what is missing.
func TestEndpointsWithoutTheRight(t *testing.T) {
	w := enter(t)
	for name, tc := range map[string]struct {
		namespace string
		rules     []rbacv1.PolicyRule
		ends      bool
	}{
		"the API server's, none": {namespace: metav1.NamespaceDefault, ends: true},
		"the API server's, Services alone": {
			namespace: metav1.NamespaceDefault, rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"get"}}},
		},
		"Berth's, Services alone": {
			namespace: v1alpha1.SystemNamespace, rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"get"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := world{plane: w.plane, T: t, ctx: t.Context()}
			var role rbacv1.Role
			w.ok(w.client.Get(w.ctx, types.NamespacedName{Namespace: tc.namespace, Name: v1alpha1.EndpointsRole}, &role))
			lesser := role.DeepCopy()
			lesser.Rules = tc.rules
			w.ok(w.client.Update(w.ctx, lesser))
			restore := func() {
				lesser.Rules = role.Rules
				w.ok(w.client.Update(context.WithoutCancel(w.ctx), lesser))
			}
			w.Cleanup(restore)
			p := w.forwardProxy()
			w.ok(p.launch(w.ctx))
			w.ok(eventually(w.ctx, "the proxy to say what is missing", func(context.Context) error {
				says := `in the namespace "` + tc.namespace + `"; apply manifests/base: its Role '` + v1alpha1.EndpointsRole + `' in that namespace`
				if !strings.Contains(strings.ReplaceAll(p.log.String(), `\`, ""), says) { // JSON has quotes behind them
					return fmt.Errorf("the log must say: %s", says)
				}
				return nil
			}))
			if err := p.ready(w.ctx); err == nil {
				t.Error("it is ready")
			}
			restore()
			if !tc.ends {
				w.ok(eventually(w.ctx, "the proxy to be ready", p.ready))
			} else if err := eventually(w.ctx, "the proxy to end", func(context.Context) error {
				if p.running() {
					return errors.New("it runs")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
}
