package rewrite_test

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
)

// unknown is a field of a Kubernetes that is newer than this test.
const unknown = "fieldOfTomorrow"

// TestLaws holds every golden to what is true of all Pods.
func TestLaws(t *testing.T) {
	t.Parallel()
	for name, s := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			laws(t, s)
			deterministic(t, s, 100)
		})
	}
}

// laws hold for every Pod.
func laws(t *testing.T, s *scene) {
	t.Helper()
	input, old := s.pod.DeepCopy(), s.before.DeepCopy()
	after, _, err := s.run()
	for _, diff := range []string{gocmp.Diff(input, s.pod), gocmp.Diff(old, s.before)} {
		if diff != "" {
			t.Fatalf("the input was changed:\n%s", diff)
		}
	}
	if err != nil {
		if after != s.pod {
			t.Error("a Pod that is refused is returned changed")
		}
		return
	}
	twiceIsOnce(t, s, after)
	appendsOnly(t, s.pod, after)
	patches(t, s, after)
}

func twiceIsOnce(t *testing.T, s *scene, after *corev1.Pod) {
	t.Helper()
	again, report, err := s.rewrite(after)
	if err != nil {
		t.Fatalf("the second pass fails: %v", err)
	}
	if diff := gocmp.Diff(after, again); diff != "" || len(report.Changes) > 0 {
		t.Errorf("twice is not once: %v\n%s", report.Changes, diff)
	}
}

func deterministic(t *testing.T, s *scene, runs int) {
	t.Helper()
	first, report, err := s.run()
	want := render(t, s.pod, first, report, err)
	for range runs {
		next, report, err := s.run()
		if diff := gocmp.Diff(first, next); diff != "" {
			t.Fatalf("another run gives another Pod:\n%s", diff)
		}
		if diff := gocmp.Diff(want, render(t, s.pod, next, report, err)); diff != "" {
			t.Fatalf("another run gives another report:\n%s", diff)
		}
	}
}

// appendsOnly: what the user listed comes first, unchanged but for images and NO_PROXY, which grows.
func appendsOnly(t *testing.T, before, after *corev1.Pod) {
	t.Helper()
	startsWith(t, "imagePullSecrets", before.Spec.ImagePullSecrets, after.Spec.ImagePullSecrets)
	startsWith(t, "volumes", before.Spec.Volumes, after.Spec.Volumes, cmpopts.IgnoreFields(corev1.ImageVolumeSource{}, "Reference"))
	for i := range before.Spec.InitContainers {
		appendsOnlyTo(t, &before.Spec.InitContainers[i], &after.Spec.InitContainers[i])
	}
	for i := range before.Spec.Containers {
		appendsOnlyTo(t, &before.Spec.Containers[i], &after.Spec.Containers[i])
	}
}

func appendsOnlyTo(t *testing.T, before, after *corev1.Container) {
	t.Helper()
	startsWith(t, before.Name+".volumeMounts", before.VolumeMounts, after.VolumeMounts)
	startsWith(t, before.Name+".env", before.Env, after.Env, gocmp.Transformer("grown", func(v corev1.EnvVar) corev1.EnvVar {
		if growsEnv(v.Name) {
			v.Value = ""
		}
		return v
	}))
	for i, v := range before.Env {
		if !strings.HasPrefix(after.Env[i].Value, v.Value) {
			t.Errorf("%s: '%s' was '%s' and is '%s'", before.Name, v.Name, v.Value, after.Env[i].Value)
		}
	}
}

func growsEnv(name string) bool { return strings.ToUpper(name) == "NO_PROXY" }

func startsWith[T any](t *testing.T, what string, before, after []T, options ...gocmp.Option) {
	t.Helper()
	if len(after) < len(before) {
		t.Fatalf("%s became shorter", what)
	}
	options = append(options, cmpopts.EquateEmpty())
	if diff := gocmp.Diff(before, after[:len(before)], options...); diff != "" {
		t.Errorf("%s does not begin with the user's own:\n%s", what, diff)
	}
}

// patches: the patch makes the one Pod of the other, touches nothing that it need not, and loses no field that the types do not know.
func patches(t *testing.T, s *scene, after *corev1.Pod) {
	t.Helper()
	ops := patch(t, s.pod, after)
	for _, op := range ops {
		if !allowed(s, op.Operation, op.Path) {
			t.Errorf("the patch has %s", op.Json())
		}
	}
	text, err := json.Marshal(ops)
	if err != nil {
		t.Fatal(err)
	}
	p, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	raw := toMap(t, s.pod)
	planted := plant(raw)
	planted.apply(t, p)
	if kept := uproot(planted.object); kept != planted.count {
		t.Errorf("%d of %d unknown fields survive the patch", kept, planted.count)
	}
	if diff := gocmp.Diff(any(toMap(t, after)), planted.object); diff != "" {
		t.Errorf("the patch does not make the Pod:\n%s", diff)
	}
}

// allowed reports whether a patch of a scene may have such an operation.
func allowed(s *scene, operation, path string) bool {
	if regexp.MustCompile(`^/spec/(c|initC|ephemeralC)ontainers/\d+/image$|^/spec/volumes/\d+/image/reference$`).MatchString(path) {
		return operation == "replace"
	}
	if s.before != nil {
		return false
	}
	if regexp.MustCompile(`^/metadata/annotations(/connectors\.berth\.dev~1original-images)?$`).MatchString(path) {
		return operation == "add" || strings.HasSuffix(path, "original-images")
	}
	if value := regexp.MustCompile(`^/spec/(c|initC)ontainers/(\d+)/env/(\d+)/value$`).FindStringSubmatch(path); value != nil {
		return growsEnv(envName(s.pod, value[1], value[2], value[3]))
	}
	return operation == "add" &&
		regexp.MustCompile(`^/spec/((imagePullSecrets|volumes)|(c|initC)ontainers/\d+/(env|volumeMounts))(/\d+)?$`).MatchString(path)
}

func envName(pod *corev1.Pod, list, container, entry string) string {
	containers := pod.Spec.Containers
	if list == "initC" {
		containers = pod.Spec.InitContainers
	}
	i, errI := strconv.Atoi(container)
	j, errJ := strconv.Atoi(entry)
	if errI != nil || errJ != nil {
		return ""
	}
	return containers[i].Env[j].Name
}

// garden is an object with unknown fields in it.
type garden struct {
	object any
	count  int
}

func (g *garden) apply(t *testing.T, p jsonpatch.Patch) {
	t.Helper()
	text, err := json.Marshal(g.object)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := p.Apply(text)
	if err != nil {
		t.Fatalf("the patch does not apply: %v", err)
	}
	g.object = nil
	if err := json.Unmarshal(patched, &g.object); err != nil {
		t.Fatal(err)
	}
}

// plant puts an unknown field into every object there is.
func plant(object any) garden {
	g := garden{object: object}
	walk(object, func(m map[string]any) {
		m[unknown] = "kept"
		g.count++
	})
	return g
}

// uproot removes the unknown fields, and counts them.
func uproot(object any) (count int) {
	walk(object, func(m map[string]any) {
		if m[unknown] == "kept" {
			delete(m, unknown)
			count++
		}
	})
	return count
}

func walk(value any, visit func(map[string]any)) {
	switch value := value.(type) {
	case map[string]any:
		for _, child := range value {
			walk(child, visit)
		}
		visit(value)
	case []any:
		for _, child := range value {
			walk(child, visit)
		}
	}
}

func toMap(t *testing.T, pod *corev1.Pod) map[string]any {
	t.Helper()
	text, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
