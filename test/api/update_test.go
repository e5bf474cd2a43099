package api_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// heard keeps the warnings that the API server sends.
type heard struct {
	mu  sync.Mutex
	all []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (h *heard) HandleWarningHeader(_ int, _, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, text)
}

// listening is a client whose warnings are kept.
func (w world) listening() (client.Client, kubernetes.Interface, *heard) {
	w.Helper()
	var h heard
	c := w.as(func(config *rest.Config) { config.WarningHandler = &h })
	config := rest.CopyConfig(w.config)
	config.WarningHandler = &h
	set, err := kubernetes.NewForConfig(config)
	w.ok(err)
	return c, set, &h
}

// older is a Pod from before its namespace was opted in.
func (w world) older(name, image string) *corev1.Pod {
	w.Helper()
	n := w.namespace(name)
	p := pod(n.Name, image)
	w.ok(w.client.Create(w.ctx, p))
	w.ok(w.client.Patch(w.ctx, n, merge(`{"metadata":{"labels":{"`+v1alpha1.LabelInject+`":"enabled"}}}`)))
	w.ok(eventually(w.ctx, "the namespace to be opted in", func(ctx context.Context) error {
		return w.client.Create(ctx, pod(n.Name, image), client.DryRunAll)
	}))
	return p
}

func merge(patch string) client.Patch { return client.RawPatch(types.MergePatchType, []byte(patch)) }

// setImage is what `kubectl set image` does.
func setImage(image string) client.Patch {
	return client.RawPatch(types.StrategicMergePatchType, []byte(`{"spec":{"containers":[{"name":"a","image":"`+image+`"}]}}`))
}

// others is a Pod without what an UPDATE of an image may change.
func others(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	for i := range p.Spec.Containers {
		p.Spec.Containers[i].Image = ""
	}
	p.Spec.EphemeralContainers, p.ManagedFields, p.ResourceVersion, p.Generation = nil, nil, "", 0
	return p
}

func TestSetImage(t *testing.T) {
	w := enter(t)
	p := pod(w.opted("set").Name, "registry.test/team/app:v1", "registry.test/team/side:v1")
	w.created(p)
	before := p.DeepCopy()
	w.ok(w.client.Patch(w.ctx, p, setImage("registry.test/team/app:v2")))
	w.equal("images", images(p), []string{routed("team/app:v2"), routed("team/side:v1")})
	w.equal("all else", others(p), others(before))

	t.Run("to what is not granted", func(t *testing.T) {
		c, _, h := w.listening()
		w.ok(c.Patch(w.ctx, p, setImage("registry.test/secret/app:v1")))
		w.equal("image", images(p)[0], "registry.test/secret/app:v1")
		if len(h.all) != 1 || !strings.HasPrefix(h.all[0], "NotGranted: ") {
			t.Errorf("warnings: %q", h.all)
		}
	})
	t.Run("to a Connector that does not exist", func(t *testing.T) {
		err := w.client.Patch(w.ctx, p.DeepCopy(), setImage(through(p.Namespace, "gone", "team/app")))
		if err == nil || !strings.Contains(err.Error(), "ConnectorNotFound") {
			t.Errorf("must be refused: %v", err)
		}
	})
}

// TestSetImageOfOlderPod: without the pull secret the image could never be
// pulled, so it stays. Nothing but that image changes, and so no container restarts.
func TestSetImageOfOlderPod(t *testing.T) {
	w := enter(t)
	p := w.older("older", "registry.test/team/app:v1")
	before := p.DeepCopy()
	c, _, h := w.listening()
	w.ok(c.Patch(w.ctx, p, setImage("registry.test/team/app:v2")))
	w.equal("image", images(p), []string{"registry.test/team/app:v2"})
	w.equal("all else", others(p), others(before))
	if len(h.all) != 1 || !strings.HasPrefix(h.all[0], "PullSecretMissing: ") || !strings.HasSuffix(h.all[0], "recreate the Pod") {
		t.Errorf("warnings: %q", h.all)
	}
	labelled := p.DeepCopy()
	w.ok(w.client.Patch(w.ctx, labelled, merge(`{"metadata":{"labels":{"a":"b"}}}`)))
	w.equal("an older Pod that is labelled", labelled.Spec, p.Spec)
}

// TestDebug: containers of `kubectl debug` go through the Connector, by the real kubectl and by the API.
func TestDebug(t *testing.T) {
	w := enter(t)
	p := pod(w.opted("debug").Name, "registry.test/team/app:v1")
	w.created(p)
	before := p.DeepCopy()
	out := w.kubectl(w.ctx, "", "-n", p.Namespace, "debug", p.Name, "--image=registry.test/team/tools:v1", "--container=tools", "--profile=restricted")
	if out.status != 0 {
		t.Fatal(out.stderr)
	}
	w.ok(w.client.Get(w.ctx, client.ObjectKeyFromObject(p), p))
	w.equal("image of kubectl debug", p.Spec.EphemeralContainers[0].Image, routed("team/tools:v1"))
	w.equal("all else", others(p), others(before))

	_, set, h := w.listening()
	more := p.DeepCopy()
	more.Spec.EphemeralContainers = append(more.Spec.EphemeralContainers, corev1.EphemeralContainer{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "more", Image: "registry.test/team/more:v1", TerminationMessagePolicy: "File"},
	})
	more, err := set.CoreV1().Pods(p.Namespace).UpdateEphemeralContainers(w.ctx, p.Name, more, metav1.UpdateOptions{})
	w.ok(err)
	w.equal("image by the API", more.Spec.EphemeralContainers[1].Image, routed("team/more:v1"))
	w.equal("the one before", more.Spec.EphemeralContainers[0], p.Spec.EphemeralContainers[0])
	w.equal("all else", others(more), others(before))
	if len(h.all) > 0 {
		t.Errorf("warnings: %q", h.all)
	}
}

func TestDebugOfOlderPod(t *testing.T) {
	w := enter(t)
	p := w.older("older-debug", "registry.test/team/app:v1")
	out := w.kubectl(w.ctx, "", "-n", p.Namespace, "debug", p.Name, "--image=registry.test/team/tools:v1", "--container=tools", "--profile=restricted")
	if out.status != 0 || !strings.Contains(out.stderr, "Warning: PullSecretMissing: 'registry.test/team/tools:v1' in `spec.ephemeralContainers{tools}.image` is left alone") {
		t.Errorf("status %d: %s", out.status, out.stderr)
	}
	before := p.DeepCopy()
	w.ok(w.client.Get(w.ctx, client.ObjectKeyFromObject(p), p))
	w.equal("image", p.Spec.EphemeralContainers[0].Image, "registry.test/team/tools:v1")
	w.equal("all else", others(p), others(before))
}

// TestWhatIsNoImage: an UPDATE that changes no image is none of Berth's business.
func TestWhatIsNoImage(t *testing.T) {
	w := enter(t)
	p := pod(w.opted("update").Name, "registry.test/team/app:v1")
	w.created(p)
	for _, patch := range []string{
		`{"metadata":{"labels":{"a":"b"}}}`, `{"metadata":{"finalizers":["test.test/f"]}}`, `{"metadata":{"finalizers":[]}}`,
		`{"spec":{"activeDeadlineSeconds":100}}`, `{"spec":{"tolerations":[{"key":"a","operator":"Exists"}]}}`,
	} {
		w.ok(w.client.Patch(w.ctx, p, merge(patch)))
		if e := w.event("patch", p, ""); e.rounds() != 0 {
			t.Errorf("Berth was called for %s", patch)
		}
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{v1alpha1.AnnotationConnector: "a/b/c"}}})
	w.ok(err)
	w.ok(w.client.Patch(w.ctx, p, merge(string(text))))
}
