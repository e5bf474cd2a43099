package rewrite_test

import (
	"fmt"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/config"
	"berth.dev/berth/rewrite"
)

// BenchmarkPod shows what an admission costs: by Connectors that the Pod may be
// given, of registries of their own or all of one, and by containers.
func BenchmarkPod(b *testing.B) {
	for _, bc := range []struct {
		containers, connectors int
		same                   bool
	}{
		{3, 10, false},
		{3, 1_000, false},
		{3, 10_000, false},
		{1, 1_000, false},
		{50, 1_000, false},
		{3, 1_000, true},
	} {
		registries := "each"
		if bc.same {
			registries = "one"
		}
		b.Run(fmt.Sprintf("containers=%d/connectors=%d/registry=%s", bc.containers, bc.connectors, registries), func(b *testing.B) {
			catalogue := crowd(b, bc.connectors, bc.same)
			pod := wide(bc.containers, bc.connectors, bc.same)
			namespace := rewrite.Namespace{Name: "payments"}
			policy := config.Default()
			b.ReportAllocs()
			for b.Loop() {
				_, report, err := rewrite.Pod(pod, namespace, catalogue, &policy)
				if err != nil || len(report.Changes) != bc.containers {
					b.Fatalf("%d changes, error %v", len(report.Changes), err)
				}
			}
		})
	}
}

// crowd is a catalogue of so many Connectors of the Pod's own namespace.
func crowd(b *testing.B, connectors int, same bool) *access.Catalogue {
	b.Helper()
	catalogue := &access.Catalogue{}
	for i := range connectors {
		c, err := access.New(&v1alpha1.Connector{
			ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "harbor-" + strconv.Itoa(i)},
			Spec: v1alpha1.ConnectorSpec{
				Address: "https://" + registryOf(i, same),
				Access:  []v1alpha1.AccessRule{{Repositories: []string{"team/**", "library/*"}}},
			},
		})
		if err != nil {
			b.Fatal(err)
		}
		catalogue.Put(c)
	}
	return catalogue
}

func wide(containers, connectors int, same bool) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "app"}}
	for i := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
			Name: "c" + strconv.Itoa(i), Image: registryOf(i*connectors/containers, same) + "/team/app:1.4.2",
		})
	}
	return pod
}

func registryOf(i int, same bool) string {
	if same {
		i = 0
	}
	return "harbor-" + strconv.Itoa(i) + ".example.com"
}
