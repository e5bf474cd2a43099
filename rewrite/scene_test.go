package rewrite_test

import (
	"bytes"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/config"
	"berth.dev/berth/rewrite"
)

// scene is a golden's input: a Namespace, Connectors, a Configuration where the
// defaults are not enough, and one Pod that is created, or two: a Pod as it is
// and as an update would have it.
type scene struct {
	namespace rewrite.Namespace
	catalogue *access.Catalogue
	policy    *rewrite.Policy
	before    *corev1.Pod // nil: the Pod is created
	pod       *corev1.Pod
}

// run rewrites the scene's Pod.
func (s *scene) run() (*corev1.Pod, rewrite.Report, error) {
	return s.rewrite(s.pod)
}

func (s *scene) rewrite(pod *corev1.Pod) (*corev1.Pod, rewrite.Report, error) {
	if s.before != nil {
		return rewrite.Update(s.before, pod, s.namespace, s.catalogue, s.policy)
	}
	return rewrite.Pod(pod, s.namespace, s.catalogue, s.policy)
}

func readScene(t testing.TB, file string) *scene {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	defaults := config.Default()
	s := &scene{catalogue: &access.Catalogue{}, policy: &defaults}
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		s.read(t, file, document)
	}
	if s.pod == nil || s.namespace.Name == "" {
		t.Fatalf("%s needs a Namespace and a Pod", file)
	}
	return s
}

func (s *scene) read(t testing.TB, file string, document []byte) {
	t.Helper()
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	switch kind.Kind {
	case "Namespace":
		n := decode[corev1.Namespace](t, file, document)
		s.namespace = rewrite.Namespace{Name: n.Name, Labels: n.Labels, Annotations: n.Annotations}
	case "Connector":
		compiled, err := access.New(decode[v1alpha1.Connector](t, file, document))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		s.catalogue.Put(compiled)
	case v1alpha1.ConfigurationKind:
		c, err := config.Parse(document)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		s.policy = &c
	case "Pod":
		s.before, s.pod = s.pod, decode[corev1.Pod](t, file, document)
	default:
		t.Fatalf("%s: a document of kind '%s'", file, kind.Kind)
	}
}

func decode[T any](t testing.TB, file string, document []byte) *T {
	t.Helper()
	into := new(T)
	if err := yaml.UnmarshalStrict(document, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return into
}
