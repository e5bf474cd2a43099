package e2e_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/test/lab"
)

// TestNewNamespaces: a Pod created right after its namespace pulls at once, twenty times at once.
func TestNewNamespaces(t *testing.T) {
	w := enter(t)
	image := w.push("1MiB")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			n := w.shop("new")
			p := pod(n.Name, image)
			w.create(p)
			w.running(p, patience)
			w.noPullErrors(n.Name)
		})
	}
	all.Wait()
}

// TestNamespaceLabelledLater: the next Deployment runs within a minute.
func TestNamespaceLabelledLater(t *testing.T) {
	w := enter(t)
	image := w.push("1MiB")
	n := w.namespace("later", "team", "shop")
	before := pod(n.Name, image)
	w.create(before)
	_, err := w.EventLike(w.ctx, n.Name, "Failed", "authorization failed", patience)
	w.ok(err)

	w.ok(w.Client.Patch(w.ctx, n, client.RawPatch("application/merge-patch+json",
		[]byte(`{"metadata":{"labels":{"`+v1alpha1.LabelInject+`":"`+v1alpha1.InjectEnabled+`"}}}`))))
	w.ok(w.Apply(w.ctx, n.Name, deployment("next", image)))
	start := time.Now()
	w.ok(w.Available(w.ctx, n.Name, "next", time.Minute))
	t.Logf("Available %.1f s after the label", time.Since(start).Seconds())
}

func deployment(name, image string) string {
	return strings.NewReplacer("NAME", name, "IMAGE", image).Replace(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: app, image: "IMAGE", imagePullPolicy: Always, args: [pause]}]
`)
}

// TestLeftAlone: what no Connector serves, and what is no image, is admitted as it is.
func TestLeftAlone(t *testing.T) {
	w := enter(t)
	n := w.shop("alone")
	for name, image := range map[string]string{
		"other":       "registry.test/pause:1",
		"not-granted": "harbor.example.com/secret/app:v1",
		"unparseable": "harbor.example.com/Test/UPPER:v1",
	} {
		p := pod(n.Name, image)
		p.Name = name
		w.create(p)
		if got := p.Spec.Containers[0].Image; got != image {
			t.Errorf("'%s' became '%s'", image, got)
		}
	}
}

// TestWarnings: kubectl prints what Berth has to say.
func TestWarnings(t *testing.T) {
	w := enter(t)
	n := w.shop("warn")
	warned := &warnings{}
	c, err := client.New(warned.config(w.Config), client.Options{Scheme: w.Client.Scheme()})
	w.ok(err)
	w.create(pod(n.Name, "registry.test/pause:1")) // the ServiceAccount is there now
	p := pod(n.Name, "harbor.example.com/Test/UPPER:v1")
	p.Name = "upper"
	w.ok(c.Create(w.ctx, p))
	if got := strings.Join(warned.texts, "\n"); !strings.Contains(got, "Unparseable: 'harbor.example.com/Test/UPPER:v1'") {
		t.Errorf("warned: '%s'", got)
	}
}

// TestUpstreamDown: the proxy says why, and the Pod recovers by itself.
func TestUpstreamDown(t *testing.T) {
	w := enter(t)
	image := w.push("1MiB")
	n := w.shop("down")
	_, err := w.Harbor(w.ctx, "stop")
	w.ok(err)
	t.Cleanup(func() {
		_, err := w.Harbor(context.WithoutCancel(w.ctx), "start")
		if err != nil {
			t.Log(err) // it runs already
		}
	})
	p := pod(n.Name, image)
	w.create(p)
	_, err = w.EventLike(w.ctx, n.Name, "Failed", "502", patience)
	w.ok(err)
	status, body, err := w.AskProxy(w.ctx, n.Name, "GET", connectorPath("test/x/manifests/v1"))
	w.ok(err)
	if status != 502 || !strings.Contains(body, `"errors"`) || !strings.Contains(body, "refuses connections") {
		t.Errorf("the proxy answers %d: %s", status, body)
	}
	_, err = w.Harbor(w.ctx, "start")
	w.ok(err)
	w.running(p, patience)
}

// TestPasswordRotation: after the password changed, upstream and in the Secret, the next pull works.
func TestPasswordRotation(t *testing.T) {
	w := enter(t)
	before, err := w.Credential()
	w.ok(err)
	image := w.push("1MiB")
	n := w.shop("rotate")
	_, err = w.Harbor(w.ctx, "passwd", before.Password[16:]+before.Password[:16])
	w.ok(err)
	after, err := w.Credential()
	w.ok(err)
	var secret corev1.Secret
	w.ok(w.Client.Get(w.ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: "harbor-credentials"}, &secret))
	secret.Data["password"] = []byte(after.Password)
	w.ok(w.Client.Update(w.ctx, &secret))
	p := pod(n.Name, image)
	w.create(p)
	w.running(p, patience)
	w.noPullErrors(n.Name)
}

// TestSecretProblems: a Connector with a bad Secret says what to do.
func TestSecretProblems(t *testing.T) {
	w := enter(t)
	credential, err := w.Credential()
	w.ok(err)
	for name, tc := range map[string]struct {
		change func(*corev1.Secret)
		reason string
	}{
		"missing":       {func(*corev1.Secret) {}, v1alpha1.ReasonSecretNotFound},
		"empty":         {func(s *corev1.Secret) { delete(s.Data, "password") }, v1alpha1.ReasonSecretEmpty},
		"of wrong type": {func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }, v1alpha1.ReasonSecretTypeWrong},
	} {
		t.Run(name, func(t *testing.T) {
			w := world{Lab: w.Lab, T: t, ctx: t.Context()}
			n := w.namespace("bad")
			manifest, err := lab.Connector{Namespace: n.Name, Name: "harbor"}.Manifest(credential)
			w.ok(err)
			w.ok(w.Apply(w.ctx, n.Name, manifest))
			key := client.ObjectKey{Namespace: n.Name, Name: "harbor"}
			_, err = w.Condition(w.ctx, key, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
			w.ok(err)
			w.replaceSecret(n.Name, tc.change, name == "missing")
			c, err := w.Condition(w.ctx, key, v1alpha1.ConditionSecretReady, metav1.ConditionFalse, tc.reason)
			w.ok(err)
			t.Log(c.Message)
			_, err = w.Condition(w.ctx, key, v1alpha1.ConditionReady, metav1.ConditionFalse, tc.reason)
			w.ok(err)
		})
	}
	t.Run("without the right to read it", func(t *testing.T) {
		w := world{Lab: w.Lab, T: t, ctx: t.Context()}
		n := w.namespace("bad")
		manifest, err := lab.Connector{Namespace: n.Name, Name: "harbor"}.Manifest(credential)
		w.ok(err)
		w.ok(w.Apply(w.ctx, n.Name, manifest[strings.LastIndex(manifest, "---"):]))
		c, err := w.Condition(w.ctx, client.ObjectKey{Namespace: n.Name, Name: "harbor"}, v1alpha1.ConditionSecretReady, metav1.ConditionFalse, v1alpha1.ReasonSecretForbidden)
		w.ok(err)
		t.Log(c.Message)
	})
}

func (w world) replaceSecret(namespace string, change func(*corev1.Secret), gone bool) {
	w.Helper()
	var s corev1.Secret
	w.ok(w.Client.Get(w.ctx, client.ObjectKey{Namespace: namespace, Name: "harbor-credentials"}, &s))
	w.ok(w.Client.Delete(w.ctx, s.DeepCopy()))
	if gone {
		return
	}
	s.ResourceVersion, s.UID = "", ""
	change(&s)
	w.ok(w.Client.Create(w.ctx, &s))
}

func connectorPath(rest string) string {
	return "/v2/namespaces/berth-system/connectors/harbor/" + rest
}
