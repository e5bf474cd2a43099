package manifest //nolint:testpackage // the editor is tested with more changes than the core makes

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// grow does to a Pod what package rewrite may do at most: it appends to each list.
func grow(pod *corev1.Pod) *corev1.Pod {
	out := pod.DeepCopy()
	for _, containers := range [][]corev1.Container{out.Spec.InitContainers, out.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			c.Image = "c-x.y.svc.cluster.local/namespaces/y/connectors/x/a:v1"
			c.Env = append(c.Env,
				corev1.EnvVar{Name: "BERTH_TOKEN", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
					LocalObjectReference: corev1.LocalObjectReference{Name: "berth-proxy"}, Key: "token",
				}}},
				corev1.EnvVar{Name: "HTTP_PROXY", Value: "http://berth:$(BERTH_TOKEN)@berth-proxy.berth-system.svc:3128"},
				corev1.EnvVar{Name: "NO_PROXY", Value: "localhost,.svc, # \"it's\"\n"})
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "berth", MountPath: "/run/berth", ReadOnly: true})
		}
	}
	readOnly := true
	out.Spec.Volumes = append(out.Spec.Volumes, corev1.Volume{Name: "berth", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
		Driver: "csi.connectors.berth.dev", ReadOnly: &readOnly, VolumeAttributes: map[string]string{"connectors": "a/b,c/d"},
	}}})
	out.Spec.ImagePullSecrets = append(out.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: "berth-pull"})
	out.Annotations = map[string]string{"connectors.berth.dev/original-images": `{"it's": "\""}`}
	maps.Copy(out.Annotations, pod.Annotations)
	return out
}

// All that the core may ever append can be written into every golden in place.
func TestGrow(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.in.*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			stream, err := Parse(file, text)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range stream.parts {
				if p.document != nil && p.document.concerns() {
					growDocument(t, p.document)
				}
			}
		})
	}
}

func growDocument(t *testing.T, d *document) {
	t.Helper()
	have, err := d.understood()
	if err != nil {
		t.Fatal(err)
	}
	want := runtime.DeepCopyJSONValue(have)
	all, err := d.resources(want)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		w, ok, err := d.workload(&all[i])
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			if err := d.carryOver(&w, grow(w.pod)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if equal(have, want) {
		return
	}
	out, reencoded, err := d.edited(have, want)
	if err != nil || reencoded {
		t.Fatalf("not edited in place: %v\n%s", err, d.text)
	}
	for line := range strings.Lines(string(d.text)) {
		if comment := strings.TrimSpace(line); strings.HasPrefix(comment, "#") && !strings.Contains(string(out.text), line) {
			t.Errorf("a comment is lost: %s", comment)
		}
	}
}

// The last resort keeps meaning and comments.
func TestReencoded(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/comments.in.yaml")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := Parse("comments", append([]byte("---\n"), text...))
	if err != nil {
		t.Fatal(err)
	}
	d := stream.parts[0].document
	d.located = false
	for seed := range uint64(50) {
		have, err := d.decode()
		if err != nil {
			t.Fatal(err)
		}
		want := mutated(runtime.DeepCopyJSONValue(have), rand.New(rand.NewPCG(seed, 0)))
		out, reencoded, err := d.edited(have, want)
		if err != nil || !reencoded && !equal(have, want) {
			t.Fatalf("not written anew: %v", err)
		}
		got, err := out.decode()
		if err != nil || !equal(got, want) {
			t.Fatalf("written as something else: %v\n%s", err, out.text)
		}
		for _, comment := range []string{"# The shop's", "# short for", "# pinned by", "# the sidecar", "# the end"} {
			if !strings.Contains(string(out.text), comment) {
				t.Errorf("the comment '%s' is lost:\n%s", comment, out.text)
			}
		}
	}
}

// FuzzEdit changes a document's meaning in all the ways that Berth may, at any
// place, and wants it written so; or an error, which is for what YAML cannot say.
func FuzzEdit(f *testing.F) {
	files, err := filepath.Glob("testdata/*.in.*")
	if err != nil || len(files) == 0 {
		f.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for seed := range uint64(3) {
			f.Add(text, seed)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		stream, err := Parse("fuzz", text)
		if err != nil {
			return
		}
		for _, p := range stream.parts {
			if p.document != nil && p.document.root != nil {
				mutate(t, p.document, rand.New(rand.NewPCG(seed, 0)))
			}
		}
	})
}

func mutate(t *testing.T, d *document, random *rand.Rand) {
	t.Helper()
	have, err := d.understood()
	if err != nil {
		return
	}
	want := mutated(runtime.DeepCopyJSONValue(have), random)
	if equal(have, want) {
		return
	}
	out, _, err := d.edited(have, want)
	if err != nil {
		return
	}
	got, err := out.decode()
	if err != nil || !equal(got, want) {
		t.Fatalf("edited to something else: %v\n%s\n%s", err, d.text, out.text)
	}
}

// mutated changes scalars and appends to collections, here and there.
func mutated(value any, random *rand.Rand) any {
	news := []any{"a", "it's: \"x\" # y", "yes", "0777", "two\nlines", int64(7), true, nil, "", object{"name": "n", "a": []any{"b", object{}}}, []any{}}
	some := func() any { return runtime.DeepCopyJSONValue(news[random.IntN(len(news))]) }
	switch v := value.(type) {
	case object:
		for _, k := range keysOf(v) {
			v[k] = mutated(v[k], random)
		}
		if random.IntN(4) == 0 {
			v["added.example.com/key"] = some()
		}
		return v
	case []any:
		for i := range v {
			v[i] = mutated(v[i], random)
		}
		if random.IntN(4) == 0 {
			v = append(v, some())
		}
		return v
	default:
		if random.IntN(8) == 0 {
			return some()
		}
		return value
	}
}

func BenchmarkParse(b *testing.B) {
	text, err := os.ReadFile("testdata/comments.in.yaml")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := Parse("comments", text); err != nil {
			b.Fatal(err)
		}
	}
}
