package webhook

import (
	"encoding/json"
	"math/rand"
	"testing"
	"time"

	jsonpatchapply "github.com/evanphx/json-patch/v5"
	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"
)

// TestDiffLaw holds diff to what it is: applied to the one Pod, encoded, its patch gives the other. The Pods are random
// in all of their fields, so that this also fails where a new version of the types is encoded by a rule that diff does not know.
func TestDiffLaw(t *testing.T) {
	t.Parallel()
	for seed := range int64(100) {
		fill := filler(seed)
		var a, b corev1.Pod
		fill.Fill(&a)
		holds(t, seed, &a, a.DeepCopy())
		fill.Fill(&b)
		holds(t, seed, &a, &b)
		holds(t, seed, &a, &corev1.Pod{})
		holds(t, seed, &corev1.Pod{}, &a)
		// Most of a Pod stays as it is.
		near := a
		fill.Fill(&near.Annotations)
		fill.Fill(&near.Spec.Volumes)
		near.Spec.Containers = a.DeepCopy().Spec.Containers
		if len(near.Spec.Containers) > 0 {
			c := &near.Spec.Containers[0]
			fill.Fill(&c.Image)
			fill.Fill(&c.Env)
			fill.Fill(&c.Resources)
			fill.Fill(&c.LivenessProbe)
		}
		holds(t, seed, &a, &near)
	}
}

func TestDiffSaysNothingOfTheSame(t *testing.T) {
	t.Parallel()
	for seed := range int64(50) {
		var pod corev1.Pod
		filler(seed).Fill(&pod)
		if patch := diff(&pod, &pod); len(patch) > 0 {
			t.Errorf("seed %d: %v", seed, patch)
		}
	}
}

// filler fills values at random, but those that are encoded as something else in a way that decodes again.
func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(.4).NumElements(0, 3).RandSource(rand.NewSource(seed)).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(100_000), resource.DecimalSI)
		},
		func(p *intstr.IntOrString, c randfill.Continue) { *p = intstr.FromInt32(c.Int31()) },
		func(f *metav1.Time, c randfill.Continue) { f.Time = time.Unix(c.Int63n(1<<32), 0) },
		func(f *metav1.FieldsV1, _ randfill.Continue) { f.SetRawString(`{"f:spec":{}}`) },
	)
}

func holds(t *testing.T, seed int64, a, b *corev1.Pod) {
	t.Helper()
	operations, err := json.Marshal(diff(a, b))
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatchapply.DecodePatch(operations)
	if err != nil {
		t.Fatal(err)
	}
	got := encode(t, a)
	if len(patch) > 0 {
		if got, err = patch.Apply(got); err != nil {
			t.Fatalf("seed %d: %v in %s", seed, err, operations)
		}
	}
	if diff := gocmp.Diff(decoded(t, encode(t, b)), decoded(t, got)); diff != "" {
		t.Fatalf("seed %d: the patch gives something else (-want +got):\n%s", seed, diff)
	}
}

func encode(t *testing.T, pod *corev1.Pod) []byte {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func decoded(t *testing.T, raw []byte) (document any) {
	t.Helper()
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	return document
}
