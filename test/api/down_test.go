package api_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// away ends Berth for the time of a test.
func (w world) away() {
	w.Helper()
	w.ok(w.berth.stop())
	w.Cleanup(func() { w.ok(w.berth.start(context.WithoutCancel(w.ctx))) })
}

// TestDown: without Berth, Pods can be labelled, freed of finalizers and
// deleted; only what would escape it fails, and where nobody opted in, nothing.
func TestDown(t *testing.T) {
	w := enter(t)
	p, gone := pod(w.opted("down").Name, "registry.test/team/app:v1"), pod(w.opted("down").Name, "registry.test/team/app:v1")
	p.Finalizers = []string{"test.test/f"}
	w.created(p)
	w.created(gone)
	w.away()
	for _, patch := range []string{`{"metadata":{"labels":{"a":"b"}}}`, `{"metadata":{"annotations":{"a":"b"}}}`, `{"metadata":{"finalizers":null}}`} {
		w.ok(w.client.Patch(w.ctx, p, merge(patch)))
	}
	status := p.DeepCopy()
	status.Status.Phase = corev1.PodRunning
	w.ok(w.client.Status().Update(w.ctx, status))
	w.ok(w.client.Delete(w.ctx, gone, client.GracePeriodSeconds(0)))
	w.ok(w.client.Create(w.ctx, pod(w.namespace("plain").Name, "registry.test/team/app:v1")))

	debug := status.DeepCopy()
	debug.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: "debug", Image: "registry.test/team/tools:v1", TerminationMessagePolicy: "File",
	}}}
	_, debugErr := w.clientset.CoreV1().Pods(p.Namespace).UpdateEphemeralContainers(w.ctx, p.Name, debug, metav1.UpdateOptions{})
	for name, err := range map[string]error{
		"create":       w.client.Create(w.ctx, pod(p.Namespace, "registry.test/team/app:v1")),
		"image change": w.client.Patch(w.ctx, status, setImage("registry.test/team/app:v2")),
		"debug":        debugErr,
	} {
		if err == nil || !strings.Contains(err.Error(), `failed calling webhook "pods.connectors.berth.dev"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNoLeader: a namespace whose pull secret nobody makes is waited for, and
// not long; its Pods are refused, and admitted as soon as there is a leader.
func TestNoLeader(t *testing.T) {
	w := enter(t)
	w.away()
	lease := w.takeLease()
	w.ok(w.berth.start(w.ctx))
	n := w.opted("leaderless")
	begun := time.Now()
	err := w.client.Create(w.ctx, pod(n.Name, "registry.test/team/app:v1"))
	if took := time.Since(begun); took < 2*time.Second || took > 4*time.Second {
		t.Errorf("the answer took %s, must take 2 s", took)
	}
	if err == nil || !strings.Contains(err.Error(), "try again") || !strings.Contains(err.Error(), "'"+n.Name+"'") {
		t.Errorf("must be refused: %v", err)
	}

	later := w.opted("late")
	admitted := make(chan error, 1)
	go func() { admitted <- w.client.Create(w.ctx, pod(later.Name, "registry.test/team/app:v1")) }()
	select {
	case err := <-admitted:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	w.ok(w.client.Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: later.Name, Name: v1alpha1.PullSecret},
		Type:       corev1.SecretTypeDockerConfigJson, StringData: map[string]string{corev1.DockerConfigJsonKey: `{"auths":{}}`},
	}))
	w.ok(<-admitted)

	lease.Spec.HolderIdentity = nil
	w.ok(w.client.Update(w.ctx, lease))
	w.ok(eventually(w.ctx, "the Pod to be admitted", func(ctx context.Context) error {
		return w.client.Create(ctx, pod(n.Name, "registry.test/team/app:v1"))
	}))
}

// takeLease is another leader, which does nothing.
func (w world) takeLease() *coordinationv1.Lease {
	w.Helper()
	var lease coordinationv1.Lease
	w.ok(w.client.Get(w.ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: "berth-controller"}, &lease))
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" {
		w.Error(errors.New("the lease was not given back at the end: " + *holder))
	}
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = new("test"), new(int32(3600))
	lease.Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
	w.ok(w.client.Update(w.ctx, &lease))
	return &lease
}
