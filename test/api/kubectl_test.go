package api_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/api/v1alpha1"
)

const manifest = `
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: %s, labels: {app: it}}
spec:
  containers:
  - {name: a, image: "registry.test/team/app:v1", env: [{name: NO_PROXY, value: internal}]}
  - {name: b, image: "elsewhere.test/app:v1"}
  imagePullSecrets: [{name: mine}]
`

// TestWarnings: what a user of kubectl reads.
func TestWarnings(t *testing.T) {
	w := enter(t)
	p := pod(w.opted("warned").Name, "registry.test/team/app:v1", "registry.test/secret/app:v1", "elsewhere.test/x:v1")
	p.APIVersion, p.Kind = "v1", "Pod"
	p.Annotations = map[string]string{v1alpha1.AnnotationProxy: "sometimes"}
	text, err := yaml.Marshal(p)
	w.ok(err)
	out := w.kubectl(w.ctx, string(text), "apply", "-f", "-")
	w.equal("status and output", []any{out.status, out.stdout}, []any{0, "pod/" + p.Name + " created\n"})
	w.equal("standard error", strings.Split(strings.TrimSpace(out.stderr), "\n"), []string{
		"Warning: NotGranted: 'registry.test/secret/app:v1' in `spec.containers{b}.image` is left alone: no Connector grants this namespace to pull that repository",
		"Warning: AnnotationInvalid: `metadata.annotations[connectors.berth.dev/proxy]` is not understood: 'sometimes' must be 'pipelines' or 'always' or 'never'; 'pipelines' is assumed",
	})
}

// TestManyWarnings: ten are printed, and how many there are beside.
func TestManyWarnings(t *testing.T) {
	w := enter(t)
	var list []string
	for i := range 15 {
		list = append(list, fmt.Sprintf("registry.test/secret/app%d:v1", i))
	}
	c, _, h := w.listening()
	w.ok(c.Create(w.ctx, pod(w.opted("loud").Name, list...)))
	if len(h.all) != 11 || h.all[10] != "Berth left 5 more images alone" {
		t.Errorf("%d warnings: %q", len(h.all), h.all)
	}
}

// TestApply: a manifest that is applied again is no change and no conflict,
// though the Pod that is there has other images.
func TestApply(t *testing.T) {
	w := enter(t)
	for name, flags := range map[string][]string{"server-side": {"--server-side"}, "client-side": nil} {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprintf(manifest, w.opted("apply").Name)
			var first, second corev1.Pod
			for _, p := range []*corev1.Pod{&first, &second} {
				out := w.kubectl(w.ctx, text, append([]string{"apply", "-f", "-"}, flags...)...)
				if out.status != 0 || out.stderr != "" {
					t.Fatalf("status %d: %s", out.status, out.stderr)
				}
				o, err := fromYAML(text)
				w.ok(err)
				w.ok(w.client.Get(w.ctx, client.ObjectKeyFromObject(o), p))
				w.equal("images", images(p), []string{routed("team/app:v1"), "elsewhere.test/app:v1"})
			}
			first.ManagedFields, second.ManagedFields = nil, nil
			w.equal("the Pod that was applied again", second, first)
			if out := w.kubectl(w.ctx, text, append([]string{"diff", "-f", "-"}, flags...)...); out.status != 0 {
				t.Errorf("diff ends with %d: %s%s", out.status, out.stdout, out.stderr)
			}
		})
	}
}

func fromYAML(text string) (*corev1.Pod, error) {
	var p corev1.Pod
	err := yaml.Unmarshal([]byte(text), &p)
	return &p, err
}
