package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/api/v1alpha1"
)

const sceneFiles = "../../rewrite/testdata/*.in.yaml"

// scene is a golden of package rewrite.
type scene struct {
	name, file string

	namespace     *corev1.Namespace
	connectors    []*v1alpha1.Connector
	configuration string
	before        *corev1.Pod // nil: the Pod is created
	pod           *corev1.Pod
}

// defaults is the configuration of a scene that has none.
const defaults = "apiVersion: connectors.berth.dev/v1alpha1\nkind: Configuration\n"

// readScenes returns all scenes, those of one configuration one after the other.
func readScenes(t *testing.T) (all []*scene) {
	t.Helper()
	files, err := filepath.Glob(sceneFiles)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenes: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s := &scene{name: strings.TrimSuffix(filepath.Base(file), ".in.yaml"), file: file, configuration: defaults}
		for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
			if err := s.read(document); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b *scene) int { return strings.Compare(a.configuration, b.configuration) })
	return all
}

func (s *scene) read(document []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	switch kind.Kind {
	case "Namespace":
		s.namespace = &corev1.Namespace{}
		return yaml.UnmarshalStrict(document, s.namespace)
	case "Connector":
		c := &v1alpha1.Connector{}
		s.connectors = append(s.connectors, c)
		return yaml.UnmarshalStrict(document, c)
	case v1alpha1.ConfigurationKind:
		s.configuration = string(document)
		return nil
	case "Pod":
		s.before, s.pod = s.pod, &corev1.Pod{}
		return yaml.UnmarshalStrict(document, s.pod)
	default:
		return fmt.Errorf("a document of kind '%s'", kind.Kind)
	}
}

// in is a Pod of the scene, under the scene's name, in a namespace.
func (s *scene) in(namespace string, pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.Namespace, pod.Name, pod.GenerateName = namespace, s.name, ""
	return pod
}

// answer is what Berth makes of a scene's Pod.
type answer struct {
	pod *corev1.Pod
	// refused is the refusal, empty where the Pod is let through.
	refused string
	// warnings, as the API server gives them.
	warnings []string
	// report counts the reasons, as the audit annotation does.
	report string
}

// recorded is the answer to an UPDATE that the golden's output records: the command knows of no Pod before.
func (s *scene) recorded() (a answer, err error) {
	text, err := os.ReadFile(strings.Replace(s.file, ".in.", ".out.", 1))
	if err != nil {
		return a, err
	}
	if refused, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "refused: "); ok {
		return answer{pod: s.pod, refused: refused}, nil
	}
	told, patch, _ := strings.Cut(string(text), "patch\n")
	counts := counts{}
	for line := range strings.Lines(told) {
		line = strings.TrimSpace(line)
		if skip, ok := strings.CutPrefix(line, "skip "); ok {
			counts.add(skip, &a.warnings)
		} else if strings.HasPrefix(line, "change ") {
			counts["Rewritten"]++ // an UPDATE changes nothing else
		}
	}
	a.report = counts.String()
	operations := "[" + strings.Join(strings.FieldsFunc(strings.TrimSpace(patch), func(r rune) bool { return r == '\n' }), ",") + "]"
	a.pod, err = patched(s.pod, operations)
	return a, err
}

func patched(pod *corev1.Pod, operations string) (*corev1.Pod, error) {
	patch, err := jsonpatch.DecodePatch([]byte(operations))
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	if raw, err = patch.Apply(raw); err != nil {
		return nil, err
	}
	var after corev1.Pod
	return &after, json.Unmarshal(raw, &after)
}

// stage is the part of the cluster in which the scenes are played.
type stage struct {
	world

	configuration string
	played        int
	// plain is a namespace that is not opted in, where a Pod becomes what the API server makes of it by itself.
	plain string

	// dry and set are clients whose warnings are heard, for Pods that are created and updated.
	dry   client.Client
	set   kubernetes.Interface
	heard *heard
}

const (
	// marker is a namespace whose one Connector tells how far Berth has seen.
	marker = "goldens-marker"
	// markerRegistry is that Connector's.
	markerRegistry = "marker.test"
)

// prepare brings the cluster into the state of a scene, and returns once Berth
// knows it. The error says that the API server takes no such Connector.
func (st *stage) prepare(s *scene) error {
	st.Helper()
	if st.configuration != s.configuration {
		st.configuration = s.configuration
		st.configure(s.configuration)
	}
	for _, c := range s.connectors {
		st.space(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.Namespace}})
	}
	st.space(s.namespace)
	if err := st.only(s.connectors); err != nil {
		return err
	}
	st.mark()
	return nil
}

// configure starts Berth with a configuration file. It reads the file again by
// itself, but later, and the cluster's domain only when it starts.
func (w world) configure(configuration string) {
	w.Helper()
	w.ok(w.berth.stop())
	w.ok(os.WriteFile(w.path(configurationFile), []byte(configuration), 0o600))
	w.ok(w.berth.start(w.ctx))
}

// space sees to it that there is a Namespace with just these labels and annotations of Berth's.
func (w world) space(want *corev1.Namespace) {
	w.Helper()
	have := &corev1.Namespace{}
	err := w.client.Get(w.ctx, client.ObjectKeyFromObject(want), have)
	if apierrors.IsNotFound(err) {
		w.ok(w.client.Create(w.ctx, want.DeepCopy()))
		return
	}
	w.ok(err)
	if want.Labels == nil || have.Name == v1alpha1.SystemNamespace {
		return // only a Connector's
	}
	next := have.DeepCopy()
	next.Labels, next.Annotations = map[string]string{corev1.LabelMetadataName: want.Name}, want.Annotations
	maps.Copy(next.Labels, want.Labels)
	if !apiequality.Semantic.DeepEqual(have, next) {
		w.ok(w.client.Update(w.ctx, next))
	}
}

// only sees to it that there are these Connectors and no others. The error is of one that is not taken.
func (w world) only(want []*v1alpha1.Connector) error {
	w.Helper()
	var have v1alpha1.ConnectorList
	w.ok(w.client.List(w.ctx, &have))
	there := map[client.ObjectKey]bool{}
	for i := range have.Items {
		c := &have.Items[i]
		key := client.ObjectKeyFromObject(c)
		same := func(other *v1alpha1.Connector) bool {
			return client.ObjectKeyFromObject(other) == key && apiequality.Semantic.DeepEqual(other.Spec, c.Spec)
		}
		if there[key] = slices.ContainsFunc(want, same); !there[key] {
			w.ok(w.client.Delete(w.ctx, c))
		}
	}
	for _, c := range want {
		if there[client.ObjectKeyFromObject(c)] {
			continue
		}
		if err := w.client.Create(w.ctx, c.DeepCopy()); err != nil {
			return err
		}
	}
	return nil
}

// mark makes, after all else, a Connector, and lets a Namespace name it. Objects
// of a kind come to Berth in their order: once it routes an image by this one,
// it knows what came before.
func (st *stage) mark() {
	st.Helper()
	st.played++
	name := "scene-" + strconv.Itoa(st.played)
	label := map[string]string{v1alpha1.LabelInject: v1alpha1.InjectEnabled}
	annotation := map[string]string{v1alpha1.AnnotationConnector: name}
	if st.played == 1 {
		st.space(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: marker, Labels: label}})
	}
	st.ok(st.client.Create(st.ctx, &v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: marker, Name: name},
		Spec:       v1alpha1.ConnectorSpec{ConnectorClassName: "oci", Address: "https://" + markerRegistry},
	}))
	st.space(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: marker, Labels: label, Annotations: annotation}})
	st.ok(eventually(st.ctx, "Berth to know the scene", func(ctx context.Context) error {
		p := pod(marker, markerRegistry+"/a")
		if err := st.client.Create(ctx, p, client.DryRunAll); err != nil {
			return err
		}
		if got := images(p)[0]; !strings.Contains(got, "/connectors/"+name+"/") {
			return fmt.Errorf("the image is '%s'", got)
		}
		return nil
	}))
}
