package api_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api/v1alpha1"
)

func diff(want, got any) string { return cmp.Diff(want, got, cmpopts.EquateEmpty()) }

// TestRewritten: a Pod of an opted-in namespace is changed, and as little as can be.
func TestRewritten(t *testing.T) {
	w := enter(t)
	p := pod(w.opted("shop").Name, "registry.test/team/app:v1", "elsewhere.test/app:v1")
	e := w.created(p)
	w.equal("images", images(p), []string{routed("team/app:v1"), "elsewhere.test/app:v1"})
	w.equal("pull secrets", p.Spec.ImagePullSecrets, []corev1.LocalObjectReference{{Name: v1alpha1.PullSecret}})
	w.equal("original images", originals(t, p), map[string]string{"spec.containers{a}.image": "registry.test/team/app:v1"})
	w.equal("audit annotation", e.said("report"), "NoConnector=1,Rewritten=1")
	ops, err := e.patches()
	w.ok(err)
	if len(ops) != 3 {
		t.Errorf("the patch must have three operations: %v", ops)
	}
}

func originals(t *testing.T, p *corev1.Pod) (m map[string]string) {
	t.Helper()
	if text, ok := p.Annotations[v1alpha1.AnnotationOriginalImages]; ok {
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Error(err)
		}
	}
	return m
}
