package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// patience is for what takes a second or two on a machine that has nothing else to do.
const patience = 30 * time.Second

// errFinal marks what no waiting will change.
var errFinal = errors.New("this will not change")

// eventually waits until a condition holds.
func eventually(ctx context.Context, what string, holds func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		last = holds(ctx)
		if errors.Is(last, errFinal) {
			return false, last
		}
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w: %w", what, err, last)
	}
	return nil
}

// world is the control plane for one test.
type world struct {
	*plane
	*testing.T
	ctx context.Context
}

// enter skips a test where there is no control plane, and sees to it that the
// Connector 'berth-system/registry' is known, which lets every namespace pull
// registry.test/team/**.
func enter(t *testing.T) world {
	t.Helper()
	if shared == nil {
		t.Skip("SKIPPED: needs the programs of Kubernetes; run it by: make test-api")
	}
	w := world{plane: shared, T: t, ctx: t.Context()}
	w.connector(v1alpha1.SystemNamespace, "registry", "https://registry.test", grant(v1alpha1.NamespacesFromAll, "team/**"))
	return w
}

func (w world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// as is a client of somebody else.
func (w world) as(change func(*rest.Config)) client.Client {
	w.Helper()
	config := rest.CopyConfig(w.config)
	change(config)
	c, err := client.New(config, client.Options{Scheme: w.client.Scheme()})
	w.ok(err)
	return c
}

// namespace makes one of a name that begins so.
func (w world) namespace(name string, labels ...string) *corev1.Namespace {
	w.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name + "-" + rand.String(6), Labels: map[string]string{}}}
	for i := 0; i < len(labels); i += 2 {
		n.Labels[labels[i]] = labels[i+1]
	}
	w.ok(w.client.Create(w.ctx, n))
	return n
}

// opted is a namespace that is opted in.
func (w world) opted(name string, labels ...string) *corev1.Namespace {
	w.Helper()
	return w.namespace(name, append(labels, v1alpha1.LabelInject, v1alpha1.InjectEnabled)...)
}

func grant(from v1alpha1.NamespacesFrom, repositories ...string) []v1alpha1.AccessRule {
	return []v1alpha1.AccessRule{{Namespaces: v1alpha1.AccessNamespaces{From: from}, Repositories: repositories}}
}

// connector makes a Connector and waits until Berth knows it.
func (w world) connector(namespace, name, address string, access []v1alpha1.AccessRule) {
	w.Helper()
	c := &v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.ConnectorSpec{ConnectorClassName: "oci", Address: address, Access: access},
	}
	w.ok(client.IgnoreAlreadyExists(w.client.Create(w.ctx, c)))
	const asker = "asks-for-connectors"
	w.ok(client.IgnoreAlreadyExists(w.client.Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: asker, Labels: map[string]string{v1alpha1.LabelInject: v1alpha1.InjectEnabled},
	}})))
	ask := pod(asker, "registry.test/any")
	ask.Annotations = map[string]string{v1alpha1.AnnotationConnector: namespace + "/" + name}
	w.ok(eventually(w.ctx, "Connector '"+namespace+"/"+name+"' to be known", func(ctx context.Context) error {
		err := w.client.Create(ctx, ask.DeepCopy(), client.DryRunAll)
		if err != nil && strings.Contains(err.Error(), "ConnectorForbidden") {
			return nil
		}
		return err
	}))
}

// pod is a Pod that the restricted Pod Security profile admits, with a container for each image.
func pod(namespace string, images ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "app-" + rand.String(6)},
		Spec: corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}},
	}
	for i, image := range images {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: string(rune('a' + i)), Image: image,
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		})
	}
	return p
}

// routed is an image of Connector 'berth-system/registry'.
func routed(image string) string { return through(v1alpha1.SystemNamespace, "registry", image) }

// through is an image as it goes through a Connector.
func through(namespace, name, image string) string {
	return "c-" + name + "." + namespace + ".svc.cluster.local/namespaces/" + namespace + "/connectors/" + name + "/" + image
}

// images are those of the containers.
func images(p *corev1.Pod) []string {
	var list []string
	for i := range p.Spec.Containers {
		list = append(list, p.Spec.Containers[i].Image)
	}
	return list
}

func (w world) equal(what string, got, want any) {
	w.Helper()
	if diff := diff(want, got); diff != "" {
		w.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// created creates a Pod and returns the record of it.
func (w world) created(p *corev1.Pod, options ...client.CreateOption) auditEvent {
	w.Helper()
	w.ok(w.client.Create(w.ctx, p, options...))
	return w.event("create", p, "")
}

func (w world) event(verb string, p *corev1.Pod, subresource string) auditEvent {
	w.Helper()
	e, err := w.audit.find(w.ctx, verb, p.Namespace, p.Name, subresource)
	w.ok(err)
	return e
}
