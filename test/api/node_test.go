package api_test

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// nodeAccount is the ServiceAccount of `berth node`.
const nodeAccount = "berth-node"

// node makes a Node with a startup taint and some more.
func (w world) node() *corev1.Node {
	w.Helper()
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-" + rand.String(6), Labels: map[string]string{"zone": "a"}, Annotations: map[string]string{"theirs": "kept"}},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{
			{Key: "theirs", Effect: corev1.TaintEffectNoSchedule},
			{Key: v1alpha1.TaintNotReady, Effect: corev1.TaintEffectNoSchedule},
			{Key: v1alpha1.TaintNotReady, Effect: corev1.TaintEffectNoExecute},
		}},
	}
	w.ok(w.client.Create(w.ctx, n))
	return n
}

func ours(t corev1.Taint) bool { return t.Key == v1alpha1.TaintNotReady }

// plugin is a client with a token as the node plugin has on a node.
func (w world) plugin(n *corev1.Node) client.Client {
	w.Helper()
	request := &authenticationv1.TokenRequest{}
	if n != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}
	}
	token, err := w.clientset.CoreV1().ServiceAccounts(v1alpha1.SystemNamespace).CreateToken(w.ctx, nodeAccount, request, metav1.CreateOptions{})
	w.ok(err)
	return w.as(func(c *rest.Config) {
		*c = rest.Config{Host: c.Host, BearerToken: token.Status.Token, TLSClientConfig: rest.TLSClientConfig{CAData: c.CAData}, WarningHandler: c.WarningHandler}
	})
}

// patch changes a Node as a client, and leaves the caller's copy as it was.
func (w world) patch(c client.Client, n *corev1.Node, change func(*corev1.Node)) error {
	w.Helper()
	next := n.DeepCopy()
	change(next)
	return c.Patch(w.ctx, next, client.MergeFrom(n))
}

func report(text string) func(*corev1.Node) {
	return func(n *corev1.Node) { metav1.SetMetaDataAnnotation(&n.ObjectMeta, v1alpha1.AnnotationNode, text) }
}

// TestNodeFence: with the node plugin's own token, nothing of a Node can be changed but what its work needs.
func TestNodeFence(t *testing.T) {
	w := enter(t)
	own, other := w.node(), w.node()
	c := w.plugin(own)
	const fence = "ValidatingAdmissionPolicy 'berth-node-fence'"
	refused := map[string]struct {
		err  error
		says string
	}{
		"another Node":              {w.patch(c, other, report("{}")), fence},
		"a token of no node":        {w.patch(w.plugin(nil), own, report("{}")), fence},
		"another annotation":        {w.patch(c, own, func(n *corev1.Node) { n.Annotations["mine"] = "" }), fence},
		"another's annotation":      {w.patch(c, own, func(n *corev1.Node) { n.Annotations["theirs"] = "" }), fence},
		"another's annotation gone": {w.patch(c, own, func(n *corev1.Node) { delete(n.Annotations, "theirs") }), fence},
		"a book":                    {w.patch(c, own, report(strings.Repeat("x", v1alpha1.MaxNodeReport+1))), fence},
		"a label":                   {w.patch(c, own, func(n *corev1.Node) { n.Labels["zone"] = "b" }), fence},
		"a label less":              {w.patch(c, own, func(n *corev1.Node) { n.Labels = nil }), fence},
		"a finalizer":               {w.patch(c, own, func(n *corev1.Node) { n.Finalizers = []string{"mine.test/x"} }), fence},
		"an owner": {w.patch(c, own, func(n *corev1.Node) {
			n.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Namespace", Name: "x", UID: "x"}}
		}), fence},
		"another's taint gone": {w.patch(c, own, func(n *corev1.Node) { n.Spec.Taints = n.Spec.Taints[1:] }), fence},
		"all taints gone":      {w.patch(c, own, func(n *corev1.Node) { n.Spec.Taints = nil }), fence},
		"one more taint": {w.patch(c, own, func(n *corev1.Node) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "mine", Effect: corev1.TaintEffectNoExecute})
		}), fence},
		"another's taint weaker": {w.patch(c, own, func(n *corev1.Node) { n.Spec.Taints[0].Effect = corev1.TaintEffectPreferNoSchedule }), fence},
		"the taint stronger":     {w.patch(c, own, func(n *corev1.Node) { n.Spec.Taints[1].Value = "x" }), fence},
		"status":                 {c.Status().Patch(w.ctx, own.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"status":{"phase":"Running"}}`))), "cannot patch resource"},
		"update":                 {c.Update(w.ctx, own.DeepCopy()), "cannot update resource"},
		"delete":                 {c.Delete(w.ctx, own.DeepCopy()), "cannot delete resource"},
		"make":                   {c.Create(w.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "mine"}}), "cannot create resource"},
		"read a Secret": {
			c.Get(w.ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.TokenKeys}, &corev1.Secret{}), "cannot get resource",
		},
		"write a ConfigMap": {
			c.Create(w.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "mine"}}), "cannot create resource",
		},
	}
	for name, tc := range refused {
		if !apierrors.IsForbidden(tc.err) && !apierrors.IsInvalid(tc.err) || !strings.Contains(tc.err.Error(), tc.says) {
			t.Errorf("%s: %v", name, tc.err)
		}
	}
	w.ok(w.patch(c, own, report(`{"ready":false}`)))
	w.ok(w.client.Get(w.ctx, client.ObjectKeyFromObject(own), own))
	w.ok(w.patch(c, own, func(n *corev1.Node) {
		report(`{"ready":true}`)(n)
		n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, ours)
	}))
	w.ok(w.client.Get(w.ctx, client.ObjectKeyFromObject(own), own))
	w.equal("annotations", own.Annotations, map[string]string{"theirs": "kept", v1alpha1.AnnotationNode: `{"ready":true}`})
	if slices.ContainsFunc(own.Spec.Taints, ours) || own.Spec.Taints[0].Key != "theirs" {
		t.Errorf("taints: %v", own.Spec.Taints)
	}
	tainted := own.DeepCopy()
	if err := w.patch(c, own, func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: v1alpha1.TaintNotReady, Effect: corev1.TaintEffectNoSchedule})
	}); err == nil || !strings.Contains(err.Error(), fence) {
		t.Errorf("put the taint on: %v", err)
	}
	w.ok(w.patch(w.client, tainted, func(n *corev1.Node) { n.Spec.Unschedulable = true })) // others are not held
}

// TestNodeFenceKnowsEveryField: the fence names the fields of a Node's spec, so that one more in Kubernetes is one more there.
func TestNodeFenceKnowsEveryField(t *testing.T) {
	w := enter(t)
	policy, err := os.ReadFile("../../manifests/base/fence.yaml")
	w.ok(err)
	values := map[string]any{
		"podCIDR": "10.1.0.0/24", "podCIDRs": []string{"10.1.0.0/24"}, "providerID": "x://y", "externalID": "x", "unschedulable": true,
		"configSource":        map[string]any{"configMap": map[string]any{"namespace": "x", "name": "x", "kubeletConfigKey": "x"}},
		"podPreemptionPolicy": map[string]any{},
	}
	for field := range reflect.TypeFor[corev1.NodeSpec]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "taints" {
			continue
		}
		if n := "?spec.?" + name + " == oldObject.?spec.?" + name; !strings.Contains(string(policy), n) || values[name] == nil {
			t.Errorf("the fence must say, and this test try: %s", n)
			continue
		}
		own := w.node()
		text, err := json.Marshal(map[string]any{"spec": map[string]any{name: values[name]}})
		w.ok(err)
		err = w.plugin(own).Patch(w.ctx, own.DeepCopy(), client.RawPatch(types.MergePatchType, text))
		if err != nil && strings.Contains(err.Error(), "berth-node-fence") {
			continue
		}
		// What nobody may set, or this API server does not know, it refuses or drops by itself.
		var now corev1.Node
		w.ok(w.client.Get(w.ctx, client.ObjectKeyFromObject(own), &now))
		if !reflect.DeepEqual(reflect.ValueOf(own.Spec).FieldByIndex(field.Index).Interface(), reflect.ValueOf(now.Spec).FieldByIndex(field.Index).Interface()) {
			t.Errorf("'%s' could be changed: %v", name, err)
		}
	}
}
