package api_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

// TestNotCalled: where nobody opted in, and in Berth's own and the cluster's namespaces, Berth is not asked.
func TestNotCalled(t *testing.T) {
	w := enter(t)
	mark := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"`+v1alpha1.LabelInject+`":"enabled"}}}`))
	for _, name := range []string{"kube-system", v1alpha1.SystemNamespace} {
		w.ok(w.client.Patch(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, mark))
	}
	for _, namespace := range []string{
		w.namespace("plain").Name, w.namespace("plain", v1alpha1.LabelInject, v1alpha1.InjectDisabled).Name,
		"kube-system", v1alpha1.SystemNamespace,
	} {
		p := pod(namespace, "registry.test/team/app:v1")
		if e := w.created(p); e.rounds() != 0 || len(p.Spec.ImagePullSecrets) > 0 {
			t.Errorf("%s: Berth was called %d times: %v", namespace, e.rounds(), images(p))
		}
	}
	mirror := pod(w.opted("mirror").Name, "registry.test/team/app:v1")
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	mirror.Spec.NodeName = "node"
	if e := w.created(mirror); e.rounds() != 0 {
		t.Error("Berth was called for a mirror Pod")
	}
}

// TestLeftAlone: what the user asks to leave alone stays, though Berth is called.
func TestLeftAlone(t *testing.T) {
	w := enter(t)
	for name, tc := range map[string]struct {
		change  func(*corev1.Pod)
		report  string
		secrets int
	}{
		"opted out": {func(p *corev1.Pod) { p.Labels = map[string]string{v1alpha1.LabelInject: v1alpha1.InjectDisabled} }, "OptedOut=1", 0},
		"keep": {func(p *corev1.Pod) {
			p.Annotations = map[string]string{v1alpha1.AnnotationImages: v1alpha1.ImagesKeep}
		}, "ImagesKept=1", 1},
		"an operator's": {func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "db.test/v1", Kind: "Cluster", Name: "db", UID: "1", Controller: new(true)}}
		}, "Owner=1", 0},
		"never pulled": {func(p *corev1.Pod) { p.Spec.Containers[0].ImagePullPolicy = corev1.PullNever }, "PullPolicyNever=1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod(w.opted("alone").Name, "registry.test/team/app:v1")
			tc.change(p)
			e := w.created(p)
			if e.rounds() != 1 || e.said("report") != tc.report {
				t.Errorf("called %d times, report %q, must be %q", e.rounds(), e.said("report"), tc.report)
			}
			w.equal("images", images(p), []string{"registry.test/team/app:v1"})
			if len(p.Spec.ImagePullSecrets) != tc.secrets {
				t.Errorf("pull secrets: %v", p.Spec.ImagePullSecrets)
			}
		})
	}
}

// TestDryRun: the same answer, and nothing is there afterwards.
func TestDryRun(t *testing.T) {
	w := enter(t)
	n := w.opted("dry")
	tried := pod(n.Name, "registry.test/team/app:v1")
	done := tried.DeepCopy()
	w.ok(w.client.Create(w.ctx, tried, client.DryRunAll))
	if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(tried), &corev1.Pod{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry run left the Pod behind: %v", err)
	}
	w.ok(w.client.Create(w.ctx, done))
	w.equal("spec", tried.Spec, done.Spec)
	w.equal("annotations", tried.Annotations, done.Annotations)
}

// TestImageVolumes: `spec.volumes[].image.reference` names an image, too.
func TestImageVolumes(t *testing.T) {
	w := enter(t)
	p := pod(w.opted("volumes").Name, "registry.test/team/app:v1")
	p.Spec.Volumes = []corev1.Volume{{Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "registry.test/team/model:v1"}}}}
	w.created(p)
	w.equal("image volume", p.Spec.Volumes[0].Image.Reference, routed("team/model:v1"))
	w.equal("original", originals(t, p)["spec.volumes{model}.image.reference"], "registry.test/team/model:v1")
}

// TestProxyUnderRestricted: what Berth adds passes the strictest profile of Pod Security.
func TestProxyUnderRestricted(t *testing.T) {
	w := enter(t)
	n := w.opted("pipeline", "pod-security.kubernetes.io/enforce", "restricted", "pod-security.kubernetes.io/warn", "restricted")
	p := pod(n.Name, "registry.test/team/build:v1")
	p.Annotations = map[string]string{v1alpha1.AnnotationProxy: v1alpha1.ProxyAlways, v1alpha1.AnnotationConfigurations: "registry-config"}
	e := w.created(p)
	c := p.Spec.Containers[0]
	for _, name := range []string{"BERTH_TOKEN", "HTTP_PROXY", "https_proxy", "NO_PROXY", "SSL_CERT_FILE"} {
		if !slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == name }) {
			t.Errorf("no variable %s", name)
		}
	}
	if len(p.Spec.Volumes) != 1 || p.Spec.Volumes[0].CSI == nil || p.Spec.Volumes[0].CSI.Driver != v1alpha1.CSIDriver || len(c.VolumeMounts) != 1 {
		t.Errorf("the volume: %v, mounted by %v", p.Spec.Volumes, c.VolumeMounts)
	}
	w.equal("audit annotation", e.said("report"), "FilesAdded=1,ProxyAdded=1,Rewritten=1")
}

// TestRefused: a Pod that contradicts itself is refused, and the user told where and what to write.
func TestRefused(t *testing.T) {
	w := enter(t)
	owner := w.opted("owner")
	w.connector(owner.Name, "mine", "https://mine.test", grant(v1alpha1.NamespacesFromSame))
	n := w.opted("refused")
	annotated := func(value string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{v1alpha1.AnnotationConnector: value} }
	}
	image := func(image string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].Image = image }
	}
	annotation := "`metadata.annotations[" + v1alpha1.AnnotationConnector + "]`"
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		reason string
		says   []string
	}{
		"no such Connector":       {annotated(n.Name + "/gone"), "ConnectorNotFound", []string{annotation, "'" + n.Name + "/gone'", "create it in namespace '" + n.Name + "'"}},
		"not open":                {annotated(owner.Name + "/mine"), "ConnectorForbidden", []string{annotation, "'" + owner.Name + "/mine'", "`spec.access`"}},
		"not a name":              {annotated("a/b/c"), "ConnectorInvalid", []string{annotation, "'a/b/c'", "'NAMESPACE/NAME'"}},
		"empty":                   {annotated(""), "ConnectorInvalid", []string{annotation, "'NAMESPACE/NAME'"}},
		"in form, no Connector":   {image(through(n.Name, "gone", "team/app:v1")), "ConnectorNotFound", []string{"`spec.containers{a}.image`", "'" + n.Name + "/gone'"}},
		"in form, not open":       {image(through(owner.Name, "mine", "team/app:v1")), "ConnectorForbidden", []string{"`spec.containers{a}.image`", "`spec.access`"}},
		"in form, not that one":   {image(routed("secret/app:v1")), "ConnectorForbidden", []string{"'secret/app'", "`spec.access`"}},
		"in form, without a path": {image("c-registry.berth-system.svc.cluster.local/team/app:v1"), "ConnectorInvalid", []string{"/namespaces/berth-system/connectors/registry/REPOSITORY"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod(n.Name, "registry.test/team/app:v1")
			tc.change(p)
			err := w.client.Create(w.ctx, p)
			if !apierrors.IsForbidden(err) {
				t.Fatalf("must be refused: %v", err)
			}
			for _, text := range append(tc.says, `admission webhook "pods.connectors.berth.dev" denied the request: `+tc.reason+": ") {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("must say %q: %v", text, err)
				}
			}
			w.equal("audit annotation", w.event("create", p, "").said("refused"), tc.reason)
		})
	}
}

// TestNobodyCaptures: a Connector that another namespace publishes, for the same
// registry and with the longest pattern, is used only where it is named.
func TestNobodyCaptures(t *testing.T) {
	w := enter(t)
	thief, n := w.opted("thief"), w.opted("victim")
	w.connector(thief.Name, "longest", "https://registry.test", grant(v1alpha1.NamespacesFromAll, "team/app", "elsewhere/**"))
	p := pod(n.Name, "registry.test/team/app:v1", "registry.test/elsewhere/app:v1")
	w.created(p)
	w.equal("images", images(p), []string{routed("team/app:v1"), "registry.test/elsewhere/app:v1"})
	named := pod(n.Name, "registry.test/team/app:v1", "registry.test/elsewhere/app:v1")
	named.Annotations = map[string]string{v1alpha1.AnnotationConnector: thief.Name + "/longest"}
	w.created(named)
	w.equal("images where it is named", images(named), []string{through(thief.Name, "longest", "team/app:v1"), through(thief.Name, "longest", "elsewhere/app:v1")})
}

// TestNamespaceDecides: the Namespace's annotation holds for its Pods, as soon as it is there.
func TestNamespaceDecides(t *testing.T) {
	w := enter(t)
	n := w.opted("annotated")
	w.ok(w.client.Patch(w.ctx, n, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"`+v1alpha1.AnnotationImages+`":"keep"}}}`))))
	w.ok(eventually(w.ctx, "Berth to know the annotation", func(ctx context.Context) error {
		p := pod(n.Name, "registry.test/team/app:v1")
		err := w.client.Create(ctx, p, client.DryRunAll)
		if err == nil && p.Spec.Containers[0].Image != "registry.test/team/app:v1" {
			err = errNone
		}
		return err
	}))
}

// TestNewNamespaces: Pods come right after their Namespace and are never refused.
func TestNewNamespaces(t *testing.T) {
	w := enter(t)
	for range 20 {
		p := pod(w.opted("new").Name, "registry.test/team/app:v1")
		w.ok(w.client.Create(w.ctx, p))
		w.equal("images", images(p), []string{routed("team/app:v1")})
	}
}
