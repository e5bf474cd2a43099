package main

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
)

func TestPodStore(t *testing.T) {
	t.Parallel()
	store := podStore{toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{byAddress: addressesOf})}
	for namespace, status := range map[string]corev1.PodStatus{
		"shop":  {PodIPs: []corev1.PodIP{{IP: "10.1.0.1"}, {IP: "2001:db8::1"}}},
		"ended": {Phase: corev1.PodSucceeded, PodIPs: []corev1.PodIP{{IP: "10.1.0.1"}}},
		"fresh": {},
		"host":  {Phase: corev1.PodRunning, HostIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}},
	} {
		lean, err := leanPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p"}, Spec: corev1.PodSpec{NodeName: "n"}, Status: status})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Add(lean); err != nil {
			t.Fatal(err)
		}
	}
	for address, want := range map[string][]string{
		"10.1.0.1": {"shop"}, "2001:db8::1": {"shop"}, "10.0.0.1": {"host"}, "10.9.9.9": {},
	} {
		if diff := cmp.Diff(want, store.Namespaces(netip.MustParseAddr(address))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", address, diff)
		}
	}
}
