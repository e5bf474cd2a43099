// Package e2e holds the tests on a real cluster: etcd to kubelet, containerd,
// and a registry that demands a password. Nothing in them is a mock. `make
// test-cluster` runs them inside the cluster of test/cluster; anywhere else
// they are skipped.
package e2e_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/test/lab"
)

// registry is the upstream's name.
const registry = "harbor.example.com"

// patience is for things that take seconds.
const patience = 90 * time.Second

// world is the cluster with one Connector, 'berth-system/harbor', for the
// namespaces labelled team=shop.
type world struct {
	*lab.Lab
	*testing.T
	ctx context.Context
}

func enter(t *testing.T) world {
	t.Helper()
	if os.Getenv("BERTH_CLUSTER") == "" {
		t.Skip("needs root and a cluster: make test-cluster")
	}
	l, err := lab.Open()
	if err != nil {
		t.Fatal(err)
	}
	w := world{Lab: l, T: t, ctx: t.Context()}
	w.ok(l.Connect(w.ctx, lab.Connector{Namespace: v1alpha1.SystemNamespace, Name: "harbor", Access: `
  access:
  - namespaces: {from: Selector, selector: {matchLabels: {team: shop}}}
    repositories: ["test/**"]
`}))
	w.settled()
	return w
}

// settled waits until the API server reaches the webhook: the test before may
// have ended its Pods, and kube-proxy may be a moment behind.
func (w world) settled() {
	w.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "settled", Labels: map[string]string{v1alpha1.LabelInject: v1alpha1.InjectEnabled}}}
	if err := w.Client.Create(w.ctx, n); client.IgnoreAlreadyExists(err) != nil {
		w.Fatal(err)
	}
	w.ok(lab.Wait(w.ctx, patience, "the webhook to answer", func(ctx context.Context) (bool, error) {
		err := w.Client.Create(ctx, pod(n.Name, "registry.test/pause:1"), client.DryRunAll)
		return err == nil, err
	}))
}

func (w world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// shop makes a namespace that is opted in and may use the Connector, and removes it after the test.
func (w world) shop(name string) *corev1.Namespace {
	w.Helper()
	return w.namespace(name, v1alpha1.LabelInject, v1alpha1.InjectEnabled, "team", "shop")
}

func (w world) namespace(name string, labels ...string) *corev1.Namespace {
	w.Helper()
	n, err := w.Namespace(w.ctx, name+"-"+rand.String(5), labels...)
	w.ok(err)
	w.Cleanup(func() {
		if err := w.Client.Delete(context.WithoutCancel(w.ctx), n); client.IgnoreNotFound(err) != nil {
			w.Error(err)
		}
	})
	return n
}

// push pushes an image that no node has, and returns its name.
func (w world) push(size string) string {
	w.Helper()
	name := "test/" + rand.String(8) + ":v1"
	_, err := w.Harbor(w.ctx, "push", name, "--size", size)
	w.ok(err)
	return registry + "/" + name
}

// pod is a Pod that runs an image as its user wrote it.
func pod(namespace, image string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "app"},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &grace,
			Containers:                    []corev1.Container{{Name: "app", Image: image, Args: []string{"pause"}, ImagePullPolicy: corev1.PullAlways}},
		},
	}
}

// create creates a Pod, once its namespace's ServiceAccount is there.
func (w world) create(p *corev1.Pod) {
	w.Helper()
	w.ok(lab.Wait(w.ctx, patience, "Pod '"+p.Namespace+"/"+p.Name+"' to be created", func(ctx context.Context) (bool, error) {
		err := w.Client.Create(ctx, p)
		if err != nil && !strings.Contains(err.Error(), "serviceaccount") {
			w.Fatal(err)
		}
		return err == nil, err
	}))
}

// running waits for a Pod to be Ready.
func (w world) running(p *corev1.Pod, limit time.Duration) {
	w.Helper()
	w.ok(lab.Wait(w.ctx, limit, "Pod '"+p.Namespace+"/"+p.Name+"' to be Ready", func(ctx context.Context) (bool, error) {
		if err := w.Client.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
			return false, err
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return true, nil
			}
		}
		return false, waiting(p)
	}))
}

// waiting says what a Pod waits for.
func waiting(p *corev1.Pod) error {
	for _, s := range p.Status.ContainerStatuses {
		if s.State.Waiting != nil {
			return fmt.Errorf("it waits: %s: %s", s.State.Waiting.Reason, s.State.Waiting.Message)
		}
	}
	return nil
}

// noPullErrors fails if a pull in the namespace ever failed.
func (w world) noPullErrors(namespace string) {
	w.Helper()
	events, err := w.Events(w.ctx, namespace)
	w.ok(err)
	refused := w.refusedSecret(namespace, events)
	for _, e := range events {
		switch failed := e.Reason == "Failed" || e.Reason == "BackOff"; {
		case failed && slices.Contains(refused, e.InvolvedObject.Name):
			w.Logf("%s: Kubernetes kept the Secret, which was there before the Pod, from its node: %s", e.InvolvedObject.Name, e.Message)
		case failed:
			w.Errorf("%s: %s: %s", e.InvolvedObject.Name, e.Reason, e.Message)
		}
	}
}

// refusedSecret are the Pods that kubelet first pulled for without their Secret, though it was there before them. On a
// busy machine the API server's node authorizer may refuse it to a node, since it has not noticed yet whose the Pod is
// ("no relationship found between node and this object"), and kubelet waits for a second at most.
func (w world) refusedSecret(namespace string, events []corev1.Event) (names []string) {
	w.Helper()
	for _, e := range events {
		if e.Reason != "FailedToRetrieveImagePullSecret" {
			continue
		}
		var s corev1.Secret
		w.ok(w.Client.Get(w.ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.PullSecret}, &s))
		var p corev1.Pod
		w.ok(w.Client.Get(w.ctx, client.ObjectKey{Namespace: namespace, Name: e.InvolvedObject.Name}, &p))
		if !p.CreationTimestamp.Before(&s.CreationTimestamp) {
			names = append(names, p.Name)
		}
	}
	return names
}
