package csi_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/csi"
)

func system(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: name}
}

func service(addresses ...string) *corev1.Service {
	return &corev1.Service{ObjectMeta: system(v1alpha1.ProxyService), Spec: corev1.ServiceSpec{
		ClusterIPs: addresses,
		Ports:      []corev1.ServicePort{{Name: "metrics", Port: 8080}, {Name: v1alpha1.ProxyPort, Port: 443}},
	}}
}

func authority() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: system(v1alpha1.ProxyCA), Data: map[string]string{v1alpha1.CACertKey: "ca"}}
}

func harbor() *v1alpha1.Connector {
	return &v1alpha1.Connector{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "harbor"}}
}

func TestNode(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cluster []client.Object
		synced  bool
		err     string // a part of it
	}{
		"all there":         {[]client.Object{service("10.96.7.7"), authority(), harbor()}, true, ""},
		"no Service yet":    {[]client.Object{authority(), harbor()}, false, ""},
		"no authority yet":  {[]client.Object{service("10.96.7.7"), harbor()}, false, ""},
		"headless Service":  {[]client.Object{service("None"), authority(), harbor()}, false, "may not be headless"},
		"no Connectors yet": {[]client.Object{service("10.96.7.7"), authority()}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scheme := runtime.NewScheme()
			for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
				if err := add(scheme); err != nil {
					t.Fatal(err)
				}
			}
			dir := newNode(t)
			n := &csi.Node{Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(tc.cluster...).Build(), Dir: dir.HostsDir}
			_, err := n.Reconcile(t.Context(), reconcile.Request{})
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error '%v', must say '%s'", err, tc.err)
			}
			if n.Synced() != tc.synced {
				t.Errorf("Synced = %t, want %t", n.Synced(), tc.synced)
			}
			_, written := dir.files(t)[host("demo", "harbor")+"/hosts.toml"]
			if want := tc.synced && len(tc.cluster) == 3; written != want {
				t.Errorf("hosts.toml is there: %t, want %t", written, want)
			}
		})
	}
}
