package rewrite_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/config"
	"berth.dev/berth/rewrite"
	"berth.dev/berth/route"
)

const registry = "harbor.example.com"

// words are what random Pods are made of: what means something to the core, and what nearly does.
func words() []string {
	return []string{
		"", "a", "b", "app", "berth", "berth-pull", "berth-proxy", "token", "Never", "Always", "null", "{}", "*", "a,b", "harbor", " harbor ,shared/harbor", "gone",
		registry + "/t/a:1", registry + ":443/t/a", registry + ":80/t/a", "Harbor.example.com/t/a@sha256:" + strings.Repeat("ab", 32), registry + "/secret/a:1",
		registry + "/" + strings.Repeat("a", 200), "nginx", "evil." + registry + "/t/a", "quay.io/x/y:1", registry + "/T/a", "c-harbor.payments.svc.cluster.local/x",
		"c-harbor.payments.svc.cluster.local/namespaces/payments/connectors/harbor/t/a", "c-gone.payments.svc.cluster.local/namespaces/payments/connectors/gone/t/a",
		"C-harbor.payments.svc.cluster.local:443/namespaces/payments/connectors/harbor/t/a", "c-harbor.payments.svc/namespaces/payments/connectors/harbor/t/a:1",
		"c-harbor.payments/namespaces/payments/connectors/harbor/t/a", "c-harbor.payments:443/namespaces/payments/connectors/path/t/a", "registry-1.docker.io/library/a",
		"BERTH_TOKEN", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "JAVA_TOOL_OPTIONS", "$(BERTH_TOKEN)", "$(NO_PROXY)",
		"localhost, .svc", "/run/connectors.berth.dev", "/run/connectors.berth.dev/", v1alpha1.CSIDriver, "windows", "linux", corev1.LabelOSStable, "type", "virtual-kubelet",
		v1alpha1.LabelInject, v1alpha1.InjectEnabled, v1alpha1.InjectDisabled, v1alpha1.AnnotationConnector, v1alpha1.AnnotationImages, v1alpha1.AnnotationProxy,
		v1alpha1.AnnotationConfigurations, v1alpha1.AnnotationOriginalImages, corev1.MirrorPodAnnotationKey, v1alpha1.ImagesKeep, v1alpha1.ProxyAlways, v1alpha1.ProxyNever,
		"tekton.dev/taskRun", "apps/v1", "v1", "ReplicaSet", "Cluster",
	}
}

func fillPod(data []byte) *corev1.Pod {
	choose := words()
	word := func(c randfill.Continue) string { return choose[c.Intn(len(choose))] }
	pod := &corev1.Pod{}
	randfill.NewFromGoFuzz(data).NilChance(.4).NumElements(0, 4).MaxDepth(12).Funcs(
		func(s *string, c randfill.Continue) { *s = word(c) },
		func(s *corev1.PullPolicy, c randfill.Continue) { *s = corev1.PullPolicy(word(c)) },
		func(s *corev1.OSName, c randfill.Continue) { *s = corev1.OSName(word(c)) },
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(c.Int63n(1<<40), resource.BinarySI)
		},
		func(m *metav1.Time, c randfill.Continue) { *m = metav1.Unix(c.Int63n(1<<32), 0) },
		func(m *metav1.MicroTime, c randfill.Continue) {
			*m = metav1.NewMicroTime(metav1.Unix(c.Int63n(1<<32), 0).Time)
		},
		func(f *metav1.FieldsV1, _ randfill.Continue) { *f = *metav1.NewFieldsV1(`{"f:spec":{}}`) },
		func(*corev1.PodStatus, randfill.Continue) {},
	).Fill(pod)
	return pod
}

// fuzzScene has one Connector of each sort, the proxy and the files.
func fuzzScene(t testing.TB) *scene {
	t.Helper()
	policy := config.Default()
	policy.Proxy = v1alpha1.ProxyConfiguration{Address: "proxy.berth-system.svc:3128", NoProxy: []string{"10.96.0.0/12"}}
	policy.Files.Enabled = true
	s := &scene{namespace: rewrite.Namespace{Name: "payments"}, catalogue: &access.Catalogue{}, policy: &policy}
	add := func(namespace, name, address string, rules ...v1alpha1.AccessRule) {
		c, err := access.New(&v1alpha1.Connector{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       v1alpha1.ConnectorSpec{Address: address, Access: rules},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.catalogue.Put(c)
	}
	all := v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromAll}
	add("payments", "harbor", "https://"+registry, v1alpha1.AccessRule{Repositories: []string{"t/**", "library/*", "a*"}})
	add("payments", "path", "https://"+registry+"/deep/path")
	add("payments", "plain", "http://"+registry+":8080")
	add("payments", "hub", "https://docker.io")
	add("payments", "six", "https://[fd00::1]")
	add("berth-system", "shared", "https://"+registry, v1alpha1.AccessRule{Namespaces: all})
	add("shared", "harbor", "https://"+registry, v1alpha1.AccessRule{Namespaces: all})
	add("evil", "harbor", "https://"+registry, v1alpha1.AccessRule{Namespaces: all, Repositories: []string{"t/a"}})
	return s
}

// FuzzPod holds random Pods, created and updated, to the laws.
func FuzzPod(f *testing.F) {
	for _, seed := range []string{"", "a", "pod", strings.Repeat("\x00", 64), strings.Repeat("\xff\x01", 512), strings.Repeat("berth", 100)} {
		f.Add([]byte(seed), []byte(nil))
	}
	for _, s := range goldens(f) {
		text, err := yaml.Marshal(s.pod)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(nil), text)
	}
	created := fuzzScene(f)
	f.Fuzz(func(t *testing.T, random, text []byte) {
		s := *created
		s.pod = fillPod(random)
		if len(text) > 0 {
			s.pod = &corev1.Pod{}
			if yaml.Unmarshal(text, s.pod) != nil {
				return
			}
		}
		laws(t, &s)
		deterministic(t, &s, 2)
		s.before = olderThan(s.pod)
		laws(t, &s)
	})
}

// olderThan is a Pod that an update makes the given one of.
func olderThan(pod *corev1.Pod) *corev1.Pod {
	before := pod.DeepCopy()
	before.Spec.EphemeralContainers = before.Spec.EphemeralContainers[:len(before.Spec.EphemeralContainers)/2]
	for i := range before.Spec.Containers {
		if i%2 == 0 {
			before.Spec.Containers[i].Image = "before"
		}
	}
	return before
}

// FuzzImage: an image is left as it is, or says through the Connector what it said before.
func FuzzImage(f *testing.F) {
	for _, w := range words() {
		f.Add(w)
	}
	for _, seed := range []string{"docker.io/a", "[fd00::1]:443/a", registry + "/deep/path/x:1", registry + ":8080/x@sha256:" + strings.Repeat("0", 64), "localhost/a", "library/nginx:1"} {
		f.Add(seed)
	}
	s := fuzzScene(f)
	f.Fuzz(func(t *testing.T, image string) {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}}}
		after, report, err := rewrite.Pod(pod, s.namespace, s.catalogue, s.policy)
		if err != nil {
			return
		}
		got := after.Spec.Containers[0].Image
		if got == image {
			if len(report.Changes) > 0 {
				t.Errorf("'%s' is reported as changed", image)
			}
			return
		}
		roundTrip(t, s, image, got, report)
	})
}

func roundTrip(t *testing.T, s *scene, image, got string, report rewrite.Report) {
	t.Helper()
	was, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		t.Fatalf("'%s' is no reference and became '%s'", image, got)
	}
	is, err := reference.ParseNormalizedNamed(got)
	if err != nil {
		t.Fatalf("'%s' became '%s', which is no reference: %v", image, got, err)
	}
	host, err := route.ParseHost(reference.Domain(is), s.policy.ClusterDomain)
	if err != nil {
		t.Fatal(err)
	}
	name, repository, err := route.Cut(reference.Path(is))
	if err != nil || name != host || name != report.Changes[0].Connector {
		t.Fatalf("'%s' names %v and %v, reported is %v: %v", got, host, name, report.Changes[0].Connector, err)
	}
	connector, ok := s.catalogue.Get(name)
	if !ok || !slices.Contains([]string{"payments", v1alpha1.SystemNamespace}, name.Namespace) {
		t.Fatalf("'%s' goes through %v", image, name)
	}
	if err := connector.Check(access.Caller{Namespace: s.namespace.Name}, repository, v1alpha1.ActionPull); err != nil {
		t.Errorf("'%s' goes through %v, which refuses '%s': %v", image, name, repository, err)
	}
	if before, after := strings.TrimPrefix(was.String(), was.Name()), strings.TrimPrefix(is.String(), is.Name()); before != after {
		t.Errorf("'%s' lost '%s' for '%s'", image, before, after)
	}
	if reference.Path(was) == reference.Path(is) { // it was in connector form, with another spelling of the host
		if domain := strings.TrimSuffix(strings.ToLower(reference.Domain(was)), ":443"); !strings.HasPrefix(host.Host(s.policy.ClusterDomain)+".", domain+".") {
			t.Errorf("'%s' goes to '%s'", image, host)
		}
		return
	}
	if path := strings.TrimPrefix(connector.Address.Path+"/"+repository, "/"); path != reference.Path(was) {
		t.Errorf("'%s' became '%s', of the repository '%s'", image, got, path)
	}
	if domain := access.RegistryOf(strings.ToLower(reference.Domain(was))); domain != connector.Registry && (connector.Address.Scheme != "https" || domain != connector.Registry+":443") {
		t.Errorf("'%s' goes to '%s'", image, connector.Registry)
	}
}
