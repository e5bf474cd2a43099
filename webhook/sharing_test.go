package webhook

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/config"
	"berth.dev/berth/rewrite"
)

// roomy returns a list with room behind it, as decoding leaves it.
func roomy[T any](list ...T) []T { return append(make([]T, 0, len(list)+4), list...) }

// TestDiffSeesEveryChange: the Pods before and after share what is the same in both, so whatever is rewritten must be
// changed in a copy, or the patch would miss it. Here everything is rewritten that can be, also in the room behind lists.
func TestDiffSeesEveryChange(t *testing.T) {
	t.Parallel()
	const image = "harbor.example.com/test/abc:v1"
	connector, err := access.New(&v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "harbor"}, Spec: v1alpha1.ConnectorSpec{Address: "https://harbor.example.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var catalogue access.Catalogue
	catalogue.Put(connector)
	policy := config.Default()
	policy.Proxy.Address, policy.Files.Enabled = "proxy.example.com:3128", true
	container := corev1.Container{
		Name: "app", Image: image, Env: roomy(corev1.EnvVar{Name: "NO_PROXY", Value: "mine"}), VolumeMounts: roomy(corev1.VolumeMount{Name: "v", MountPath: "/v"}),
	}
	initial := *container.DeepCopy()
	initial.Name, initial.Env, initial.VolumeMounts = "init", roomy(initial.Env...), roomy(initial.VolumeMounts...)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationProxy: v1alpha1.ProxyAlways}},
		Spec: corev1.PodSpec{
			InitContainers: roomy(initial), Containers: roomy(container),
			EphemeralContainers: roomy(corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: image}}),
			Volumes:             roomy(corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: image}}}),
			ImagePullSecrets:    roomy(corev1.LocalObjectReference{Name: "mine"}),
		},
	}
	was := pod.DeepCopy()
	after, report, err := rewrite.Pod(pod, rewrite.Namespace{Name: "demo"}, &catalogue, &policy)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Changes) != 8 {
		t.Errorf("%d changes, want four images, two mounts, two proxies: %v", len(report.Changes), report.Changes)
	}
	if diff := gocmp.Diff(was, pod); diff != "" {
		t.Errorf("the Pod was changed:\n%s", diff)
	}
	for name, behind := range map[string]bool{
		"volumes":      pod.Spec.Volumes[:2][1].Name != "",
		"pull secrets": pod.Spec.ImagePullSecrets[:2][1].Name != "",
		"variables":    pod.Spec.Containers[0].Env[:2][1].Name != "",
		"mounts":       pod.Spec.Containers[0].VolumeMounts[:2][1].Name != "",
	} {
		if behind {
			t.Errorf("%s were written behind the Pod's own", name)
		}
	}
	holds(t, 0, pod, after)
}
