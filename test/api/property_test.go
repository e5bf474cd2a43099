package api_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/api/v1alpha1"
)

// TestSameAcceptance: whatever Pod the API server takes without Berth, it takes
// with Berth, and the other way round.
func TestSameAcceptance(t *testing.T) {
	w := enter(t)
	plain, opted := w.namespace("without").Name, w.opted("with").Name
	const pods, seed = 200, 7
	random := rand.New(rand.NewPCG(seed, seed))
	all := goldens(t)
	for range pods {
		all = append(all, randomPod(random))
	}
	taken := 0
	for _, p := range all {
		with, without := p.DeepCopy(), p.DeepCopy()
		with.Namespace, without.Namespace = opted, plain
		errWith, errWithout := w.client.Create(w.ctx, with, client.DryRunAll), w.client.Create(w.ctx, without, client.DryRunAll)
		if (errWith == nil) != (errWithout == nil) {
			text, err := yaml.Marshal(p)
			w.ok(err)
			t.Errorf("without Berth: %v\nwith Berth: %v\n%s", errWithout, errWith, text)
		}
		if errWith == nil {
			taken++
		}
	}
	if taken < len(all)/2 || taken == len(all) {
		t.Errorf("%d of %d Pods were taken: that tells too little", taken, len(all))
	}
}

// goldens are the Pods of package rewrite's tests, without the names of Connectors that are not here.
func goldens(t *testing.T) (pods []*corev1.Pod) {
	t.Helper()
	files, err := filepath.Glob("../../rewrite/testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
			var p corev1.Pod
			if yaml.Unmarshal(document, &p) != nil || p.Kind != "Pod" || bytes.Contains(document, []byte("svc.cluster.local")) ||
				bytes.Contains(document, []byte("/connectors/")) {
				continue
			}
			delete(p.Annotations, v1alpha1.AnnotationConnector)
			p.UID, p.ResourceVersion = "", ""
			pods = append(pods, &p)
		}
	}
	return pods
}

// choose is one of a list.
func choose[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func maybe(r *rand.Rand) bool { return r.IntN(2) == 0 }

// randomPod is, mostly, what the API server takes, with what might get into Berth's way.
func randomPod(r *rand.Rand) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "random-", Annotations: map[string]string{}, Labels: map[string]string{}}}
	if maybe(r) {
		p.Annotations[v1alpha1.AnnotationProxy] = choose(r, v1alpha1.ProxyAlways, v1alpha1.ProxyNever, v1alpha1.ProxyPipelines, "", "x")
	}
	if maybe(r) {
		p.Annotations[v1alpha1.AnnotationConfigurations] = choose(r, "registry-config", "a, b", ",,", "")
	}
	if maybe(r) {
		p.Annotations[v1alpha1.AnnotationOriginalImages] = choose(r, "{}", "[]", "null", "text", `{"a":1}`, `{"spec.containers{c0}.image":"x"}`)
	}
	if maybe(r) {
		p.Labels[choose(r, "tekton.dev/taskRun", "jenkins/label", "a")] = "b"
	}
	for range r.IntN(3) {
		p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: choose(r, "mine", v1alpha1.PullSecret, "other", "")})
	}
	if r.IntN(8) == 0 {
		p.Spec.OS = &corev1.PodOS{Name: choose(r, corev1.Linux, corev1.Windows)}
	}
	p.Spec.HostNetwork = r.IntN(8) == 0
	p.Spec.RestartPolicy = choose(r, corev1.RestartPolicyAlways, corev1.RestartPolicyNever, "")
	randomVolumes(r, &p.Spec)
	for i := range r.IntN(3) {
		c := randomContainer(r, &p.Spec, fmt.Sprintf("i%d", i))
		if maybe(r) {
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	}
	for i := range 1 + r.IntN(4) {
		p.Spec.Containers = append(p.Spec.Containers, randomContainer(r, &p.Spec, choose(r, fmt.Sprintf("c%d", i), fmt.Sprintf("c%d", i), fmt.Sprintf("c%d", i), "c0")))
	}
	return p
}

func randomVolumes(r *rand.Rand, spec *corev1.PodSpec) {
	for i := range r.IntN(4) {
		v := corev1.Volume{Name: choose(r, "berth", "berth-2", "data", "v") + choose(r, "", strconv.Itoa(i))}
		switch r.IntN(5) {
		case 0:
			v.Image = &corev1.ImageVolumeSource{Reference: randomImage(r)}
		case 1:
			v.CSI = &corev1.CSIVolumeSource{Driver: v1alpha1.CSIDriver, ReadOnly: new(true)}
		case 2:
			v.HostPath = &corev1.HostPathVolumeSource{Path: "/tmp"}
		default:
			v.EmptyDir = &corev1.EmptyDirVolumeSource{}
		}
		spec.Volumes = append(spec.Volumes, v)
	}
}

func randomImage(r *rand.Rand) string {
	return choose(r,
		"registry.test/team/app:v1", "registry.test:443/team/app", "registry.test/secret/app:v1", "nginx", "elsewhere.test:5000/a/b:c",
		"registry.test/team/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "REGISTRY.test/Team", "not an image", "a:b:c",
		"registry.test/team/"+string(bytes.Repeat([]byte("long/"), 45))+"app",
	)
}

func randomContainer(r *rand.Rand, spec *corev1.PodSpec, name string) corev1.Container {
	c := corev1.Container{Name: name, Image: randomImage(r), ImagePullPolicy: choose(r, corev1.PullAlways, corev1.PullNever, corev1.PullIfNotPresent, "")}
	for range r.IntN(4) {
		v := corev1.EnvVar{Name: choose(r, "HTTP_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "BERTH_TOKEN", "SSL_CERT_FILE", "A")}
		if maybe(r) {
			v.Value = choose(r, "http://mine:3128", "$(A)", "a,b", "")
		} else {
			v.ValueFrom = &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "berth-proxy"}, Key: "token"}}
		}
		c.Env = append(c.Env, v)
	}
	for i := range spec.Volumes {
		if maybe(r) {
			path := choose(r, "/run/connectors.berth.dev", "/run/connectors.berth.dev/", "/run", fmt.Sprintf("/data%d", i))
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: spec.Volumes[i].Name, MountPath: path})
		}
	}
	if maybe(r) {
		c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}
	}
	return c
}
