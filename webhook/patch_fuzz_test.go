package webhook

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	jsonpatchapply "github.com/evanphx/json-patch/v5"
	gocmp "github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/config"
	"berth.dev/berth/rewrite"
)

// tomorrow is a field of a Kubernetes that is newer than the types here.
const tomorrow = "fieldOfTomorrow"

// FuzzPatch holds the patch of two Pods to three things: applied to the one it gives the other; each of its operations
// changes something, and nothing that is in both Pods the same; and fields that the types do not know stay where they are.
// The Pods are random in all of their fields, or read from text; then what the core makes of each is looked at too.
func FuzzPatch(f *testing.F) {
	for _, seed := range []string{"", "pod", strings.Repeat("\x00", 64), strings.Repeat("\xff\x01", 512), strings.Repeat("berth", 200)} {
		f.Add([]byte(seed), []byte(strings.ToUpper(seed)), []byte(nil))
	}
	for _, text := range goldenPods(f) {
		f.Add([]byte("one"), []byte("another"), text)
	}
	catalogue, policy := everything(f)
	f.Fuzz(func(t *testing.T, one, another, text []byte) {
		a, b := filled(one), filled(another)
		if len(text) > 0 {
			a = &corev1.Pod{}
			if yaml.Unmarshal(text, a) != nil {
				return
			}
		}
		patches(t, a, b)
		near := a.DeepCopy()
		fillSome(another, near)
		patches(t, a, near)
		after, _, err := rewrite.Pod(a, rewrite.Namespace{Name: "payments"}, catalogue, policy)
		if err != nil {
			return
		}
		for _, op := range patches(t, a, after) {
			if !meant(op) {
				t.Errorf("not meant: %s", op.Json())
			}
		}
	})
}

// patches returns the patch of two Pods, which must be what it is meant to be.
func patches(t *testing.T, a, b *corev1.Pod) []jsonpatch.Operation {
	t.Helper()
	ops := diff(a, b)
	was, want := decoded(t, encode(t, a)), decoded(t, encode(t, b))
	for i, op := range ops {
		if twice := slices.IndexFunc(ops[:i], func(other jsonpatch.Operation) bool { return within(op.Path, other.Path) }); twice >= 0 {
			t.Fatalf("%s comes after %s", op.Json(), ops[twice].Json())
		}
		before, had := at(was, op.Path)
		after, has := at(want, op.Path)
		ok := op.Operation == "add" && !had && has || op.Operation == "remove" && had && !has ||
			op.Operation == "replace" && had && has && !gocmp.Equal(before, after)
		if !ok {
			t.Fatalf("an operation without need: %s, was %v, is to be %v", op.Json(), before, after)
		}
	}
	applies(t, ops, was, want)
	return ops
}

// applies tries a patch on a Pod with unknown fields everywhere. Those in what was replaced or removed as a whole may go.
func applies(t *testing.T, ops []jsonpatch.Operation, was, want any) {
	t.Helper()
	if len(ops) == 0 {
		if diff := gocmp.Diff(want, was); diff != "" {
			t.Fatalf("no patch, but a difference:\n%s", diff)
		}
		return
	}
	expected := plant(was, "", ops)
	text, err := json.Marshal(ops)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatchapply.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(was)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := patch.Apply(raw)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	got := decoded(t, patched)
	if kept := uproot(got); kept != expected {
		t.Fatalf("%d unknown fields are there, not %d: %s", kept, expected, text)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatalf("the patch gives something else (-want +got):\n%s", diff)
	}
}

// plant puts an unknown field into every object, and counts those that no operation takes away with their object.
func plant(value any, path string, ops []jsonpatch.Operation) (staying int) {
	if slices.ContainsFunc(ops, func(op jsonpatch.Operation) bool { return op.Operation != "add" && op.Path == path }) {
		return 0
	}
	switch value := value.(type) {
	case map[string]any:
		for key, child := range value {
			staying += plant(child, path+"/"+escape(key), ops)
		}
		value[tomorrow] = true
		staying++
	case []any:
		for i, child := range value {
			staying += plant(child, path+"/"+strconv.Itoa(i), ops)
		}
	}
	return staying
}

// uproot takes the unknown fields out again, and counts them.
func uproot(value any) (count int) {
	switch value := value.(type) {
	case map[string]any:
		if value[tomorrow] == true {
			delete(value, tomorrow)
			count++
		}
		for child := range maps.Values(value) {
			count += uproot(child)
		}
	case []any:
		for _, child := range value {
			count += uproot(child)
		}
	}
	return count
}

// at returns what stands at a path of RFC 6901.
func at(value any, path string) (found any, ok bool) {
	for key := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		switch inner := value.(type) {
		case map[string]any:
			value, ok = inner[strings.ReplaceAll(strings.ReplaceAll(key, "~1", "/"), "~0", "~")]
		case []any:
			i, err := strconv.Atoi(key)
			if ok = err == nil && i < len(inner); ok {
				value = inner[i]
			}
		default:
			ok = false
		}
		if !ok {
			return nil, false
		}
	}
	return value, true
}

// within reports whether one path leads to where the other does, or into it.
func within(inner, outer string) bool {
	return inner == outer || strings.HasPrefix(inner, outer+"/")
}

// meant reports whether the core may ask for an operation on a Pod that is created.
func meant(op jsonpatch.Operation) bool {
	image := regexp.MustCompile(`^/spec/((c|initC|ephemeralC)ontainers/\d+/image|volumes/\d+/image/reference)$`)
	grown := regexp.MustCompile(`^/spec/(c|initC)ontainers/\d+/env/\d+/value$`)
	added := regexp.MustCompile(`^/spec/(imagePullSecrets|volumes|(c|initC)ontainers/\d+/(env|volumeMounts))(/\d+)?$`)
	originals := "/metadata/annotations/" + escape(v1alpha1.AnnotationOriginalImages)
	switch op.Operation {
	case "replace":
		return image.MatchString(op.Path) || grown.MatchString(op.Path) || op.Path == originals
	case "add":
		return added.MatchString(op.Path) || grown.MatchString(op.Path) || op.Path == originals || op.Path == "/metadata/annotations"
	default:
		return false
	}
}

// filled is a Pod at random. Each text that it holds is one of a few, so that two Pods have much in common.
func filled(data []byte) *corev1.Pod {
	pod := &corev1.Pod{}
	source(data).Fill(pod)
	return pod
}

// fillSome changes a few parts of a Pod.
func fillSome(data []byte, pod *corev1.Pod) {
	fill := source(data)
	fill.Fill(&pod.Annotations)
	fill.Fill(&pod.Spec.Volumes)
	fill.Fill(&pod.Spec.Affinity)
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		fill.Fill(&c.Image)
		fill.Fill(&c.Env)
		fill.Fill(&c.Resources)
	}
}

func source(data []byte) *randfill.Filler {
	choose := []string{
		"", "a", "app", "a/b~c", "harbor.example.com/t/a:1", "nginx", "NO_PROXY", "HTTP_PROXY", "always", "registry-config", "berth", "berth-pull",
		v1alpha1.AnnotationProxy, v1alpha1.AnnotationConfigurations, v1alpha1.AnnotationOriginalImages, "c-harbor.payments.svc:443/namespaces/payments/connectors/harbor/t/a",
	}
	return randfill.NewFromGoFuzz(data).NilChance(.6).NumElements(0, 3).MaxDepth(9).Funcs(
		func(s *string, c randfill.Continue) { *s = choose[c.Intn(len(choose))] },
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(100_000), resource.DecimalSI)
		},
		func(p *intstr.IntOrString, c randfill.Continue) { *p = intstr.FromInt32(c.Int31()) },
		func(f *metav1.Time, c randfill.Continue) { *f = metav1.Unix(c.Int63n(1<<32), 0) },
		func(f *metav1.FieldsV1, _ randfill.Continue) { f.SetRawString(`{"f:spec":{}}`) },
	)
}

// goldenPods are those of package rewrite, as texts.
func goldenPods(f *testing.F) (texts [][]byte) {
	f.Helper()
	files, err := filepath.Glob("../rewrite/testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		documents := strings.Split(string(text), "\n---\n")
		texts = append(texts, []byte(documents[len(documents)-1]))
	}
	return texts
}

// everything is a Connector for the registry of the Pods, and a policy by which they get all there is.
func everything(f *testing.F) (*access.Catalogue, *rewrite.Policy) {
	f.Helper()
	connector, err := access.New(&v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "harbor"}, Spec: v1alpha1.ConnectorSpec{Address: "https://harbor.example.com"},
	})
	if err != nil {
		f.Fatal(err)
	}
	catalogue, policy := &access.Catalogue{}, config.Default()
	catalogue.Put(connector)
	policy.Proxy.Address, policy.Files.Enabled = "proxy.example.com:3128", true
	return catalogue, &policy
}
