package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// TestEndpointsAreNotDialled: the API server and Berth's own Pods are reached neither by a Connector for their address
// nor by a tunnel, whatever a network policy would say of the client itself; the API server's node is, at its other ports.
func TestEndpointsAreNotDialled(t *testing.T) {
	w := enter(t)
	owner := w.namespace("endpoints", v1alpha1.LabelInject, v1alpha1.InjectEnabled)
	other := w.namespace("endpoints", v1alpha1.LabelInject, v1alpha1.InjectEnabled)
	token, others := w.proxyToken(owner.Name, ""), w.proxyToken(other.Name, "")
	node, apiServer := w.apiServer()
	for name, address := range map[string]string{
		"api-server": apiServer,
		"webhook":    net.JoinHostPort(w.berthPod("berth-controller"), "9443"),
		"metrics":    net.JoinHostPort(w.berthPod("berth-controller"), "8080"),
		"proxy":      net.JoinHostPort(w.berthPod("berth-proxy"), "8443"),
	} {
		t.Run(name, func(t *testing.T) {
			w := world{Lab: w.Lab, T: t, ctx: t.Context()}
			w.ok(w.Apply(w.ctx, owner.Name, fmt.Sprintf(`
apiVersion: connectors.berth.dev/v1alpha1
kind: Connector
metadata: {name: %s}
spec: {connectorClassName: oci, address: "https://%s"}
`, name, address)))
			found, err := w.Condition(w.ctx, client.ObjectKey{Namespace: owner.Name, Name: name}, v1alpha1.ConditionLivenessReady, metav1.ConditionFalse, v1alpha1.ReasonAddressForbidden)
			w.ok(err)
			if !strings.Contains(found.Message, "never dialled") {
				t.Errorf("the condition says: %s", found.Message)
			}
			path := "/v2/namespaces/" + owner.Name + "/connectors/" + name + "/test/app/manifests/v1"
			status, body, err := w.AskProxyWith(w.ctx, token, http.MethodGet, path)
			w.ok(err)
			if status != http.StatusBadGateway || !strings.Contains(body, "never dials") {
				t.Errorf("the reverse proxy answers %d: %s", status, body)
			}
			status, _, err = w.tunnel(others, address)
			w.ok(err)
			if status != http.StatusForbidden {
				t.Errorf("the forward proxy answers %d", status)
			}
			host, _, err := net.SplitHostPort(address)
			w.ok(err)
			_, err = w.EventLike(w.ctx, other.Name, v1alpha1.ReasonAddressForbidden, "'"+host+"' leads to an address that Berth never dials", patience)
			w.ok(err)
		})
	}
	if status, _, err := w.tunnel(others, net.JoinHostPort(node, kubeletPort)); err != nil || status != http.StatusOK {
		t.Errorf("another port of the API server's node: %d, %v", status, err)
	}
}

// kubeletPort is kubelet's, on every node.
const kubeletPort = "10250"

// apiServer is where the API server is behind its Service, without and with its port.
func (w world) apiServer() (node, address string) {
	w.Helper()
	var slices discoveryv1.EndpointSliceList
	w.ok(w.Client.List(w.ctx, &slices, client.InNamespace(metav1.NamespaceDefault), client.MatchingLabels{discoveryv1.LabelServiceName: "kubernetes"}))
	if len(slices.Items) == 0 || len(slices.Items[0].Endpoints) == 0 || len(slices.Items[0].Ports) == 0 {
		w.Fatalf("Service 'default/kubernetes' has no endpoint: %v", slices.Items)
	}
	node = slices.Items[0].Endpoints[0].Addresses[0]
	return node, net.JoinHostPort(node, strconv.Itoa(int(*slices.Items[0].Ports[0].Port)))
}

// berthPod is the address of one of Berth's Pods.
func (w world) berthPod(name string) string {
	w.Helper()
	var list corev1.PodList
	w.ok(w.Client.List(w.ctx, &list, client.InNamespace(v1alpha1.SystemNamespace), client.MatchingLabels{"app.kubernetes.io/name": name}))
	for i := range list.Items {
		if list.Items[i].Status.PodIP != "" && list.Items[i].DeletionTimestamp == nil {
			return list.Items[i].Status.PodIP
		}
	}
	w.Fatalf("no Pod of '%s' has an address", name)
	return ""
}
