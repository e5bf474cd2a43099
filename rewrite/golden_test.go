package rewrite_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/config"
	"berth.dev/berth/rewrite"
)

//nolint:gochecknoglobals // a flag of the test
var update = flag.Bool("update", false, "write the goldens as they are now")

const (
	inSuffix  = ".in.yaml"
	outSuffix = ".out.yaml"
)

// scene is a golden's input: a Namespace, Connectors, and a Pod.
type scene struct {
	namespace rewrite.Namespace
	catalogue *access.Catalogue
	pod       *corev1.Pod
}

func policy() *rewrite.Policy {
	p := config.Default()
	return &p
}

func readScene(t *testing.T, file string) scene {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := scene{catalogue: &access.Catalogue{}}
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var kind metav1.TypeMeta
		decode(t, document, &kind, false)
		switch kind.Kind {
		case "Namespace":
			var n corev1.Namespace
			decode(t, document, &n, true)
			s.namespace = rewrite.Namespace{Name: n.Name, Labels: n.Labels, Annotations: n.Annotations}
		case "Connector":
			var c v1alpha1.Connector
			decode(t, document, &c, true)
			compiled, err := access.New(&c)
			if err != nil {
				t.Fatal(err)
			}
			s.catalogue.Put(compiled)
		case "Pod":
			s.pod = &corev1.Pod{}
			decode(t, document, s.pod, true)
		default:
			t.Fatalf("%s: a document of kind '%s'", file, kind.Kind)
		}
	}
	if s.pod == nil || s.namespace.Name == "" {
		t.Fatalf("%s needs a Namespace and a Pod", file)
	}
	return s
}

func decode(t *testing.T, document []byte, into any, strict bool) {
	t.Helper()
	unmarshal := yaml.UnmarshalStrict
	if !strict {
		unmarshal = func(b []byte, o any, _ ...yaml.JSONOpt) error { return yaml.Unmarshal(b, o) }
	}
	if err := unmarshal(document, into); err != nil {
		t.Fatal(err)
	}
}

// render is what an .out.yaml holds: the patch as people read it, the report, or the refusal.
func render(t *testing.T, before, after *corev1.Pod, report rewrite.Report, err error) string {
	t.Helper()
	if err != nil {
		return "refused: " + err.Error() + "\n"
	}
	var b strings.Builder
	for _, c := range report.Changes {
		b.WriteString("change " + c.Field + "\n    " + c.From + "\n -> " + c.To + "\n")
	}
	for _, s := range report.Skips {
		b.WriteString("skip " + s.String() + "\n")
	}
	b.WriteString("patch\n")
	for _, op := range patch(t, before, after) {
		b.WriteString("  " + op.Json() + "\n")
	}
	return b.String()
}

func patch(t *testing.T, before, after *corev1.Pod) []jsonpatch.Operation {
	t.Helper()
	a, errA := json.Marshal(before)
	b, errB := json.Marshal(after)
	ops, err := jsonpatch.CreatePatch(a, b)
	if err := errors.Join(errA, errB, err); err != nil {
		t.Fatal(err)
	}
	// The library walks maps; the operations of ours are about different places.
	slices.SortFunc(ops, func(a, b jsonpatch.Operation) int { return cmp.Compare(a.Json(), b.Json()) })
	return ops
}

func TestGoldens(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*" + inSuffix)
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, in := range files {
		name := strings.TrimSuffix(filepath.Base(in), inSuffix)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := readScene(t, in)
			before := s.pod.DeepCopy()
			after, report, err := rewrite.Pod(s.pod, s.namespace, s.catalogue, policy())
			if diff := gocmp.Diff(before, s.pod); diff != "" {
				t.Errorf("the input was changed:\n%s", diff)
			}
			compareGolden(t, strings.TrimSuffix(in, inSuffix)+outSuffix, render(t, before, after, report, err))
			if err == nil {
				laws(t, s, after)
			}
		})
	}
}

// laws hold for every Pod that is admitted.
func laws(t *testing.T, s scene, after *corev1.Pod) {
	t.Helper()
	again, report, err := rewrite.Pod(after, s.namespace, s.catalogue, policy())
	if err != nil {
		t.Fatalf("the second pass fails: %v", err)
	}
	if diff := gocmp.Diff(after, again); diff != "" || len(report.Changes) > 0 {
		t.Errorf("twice is not once:\n%s", diff)
	}
	if len(after.Spec.ImagePullSecrets) > 0 {
		kept := after.Spec.ImagePullSecrets[:len(s.pod.Spec.ImagePullSecrets)]
		if diff := gocmp.Diff(s.pod.Spec.ImagePullSecrets, kept); diff != "" && len(kept) > 0 {
			t.Errorf("the user's pull secrets do not come first:\n%s", diff)
		}
	}
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; write it by `go test ./rewrite -update`, and read it", err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestNoStaleGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*" + outSuffix)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range files {
		if _, err := os.Stat(strings.TrimSuffix(out, outSuffix) + inSuffix); err != nil {
			t.Errorf("'%s' has no input any more", out)
		}
	}
}
