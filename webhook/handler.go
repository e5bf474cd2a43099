// Package webhook is the edge between the API server and package rewrite: an
// AdmissionReview comes in, the Pod in it is rewritten, and what changed goes
// out as a JSON patch (RFC 6902).
//
// The patch is the difference between the typed Pod before and the typed Pod
// after. So it holds no operation that was not meant, and fields that this
// program's types do not know are neither seen nor lost.
//
// An admission asks nobody over the network: Connectors, Namespaces and pull
// secrets come from caches. The one thing that it waits for, and not long, is
// the pull secret of a namespace so new that the controller has not made it yet.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/rewrite"
)

// Path is where the webhook is served.
const Path = "/mutate-pods"

// ephemeral is the subresource by which `kubectl debug` adds containers.
const ephemeral = "ephemeralcontainers"

const (
	// waitLimit is how long an admission waits for a new namespace; the API server waits 5 s for us.
	waitLimit = 2 * time.Second
	// waitInterval is how often it looks into the cache meanwhile.
	waitInterval = 10 * time.Millisecond
)

// Cluster is what the webhook knows of the cluster, from caches alone.
type Cluster interface {
	// Namespace returns a Namespace, and false while it is not known.
	Namespace(ctx context.Context, name string) (rewrite.Namespace, bool)
	// HasPullSecret reports whether the namespace's pull secret exists.
	HasPullSecret(ctx context.Context, namespace string) bool
}

// Handler admits Pods.
type Handler struct {
	cluster    Cluster
	connectors rewrite.Connectors
	policy     func() *rewrite.Policy
}

// New returns the handler. It asks for the policy on each admission.
func New(cluster Cluster, connectors rewrite.Connectors, policy func() *rewrite.Policy) *Handler {
	return &Handler{cluster: cluster, connectors: connectors, policy: policy}
}

// Handle implements admission.Handler. It allows what is not a Pod, unchanged.
func (h *Handler) Handle(ctx context.Context, request admission.Request) admission.Response {
	if request.Resource.Resource != "pods" || request.SubResource != "" && request.SubResource != ephemeral {
		return admission.Allowed("not a Pod")
	}
	var pod corev1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return admission.Errored(http.StatusBadRequest, errors.New("`request.object` is not a Pod"))
	}
	switch request.Operation {
	case admissionv1.Create:
		return h.create(ctx, request.Namespace, &pod)
	case admissionv1.Update:
		var before corev1.Pod
		if err := json.Unmarshal(request.OldObject.Raw, &before); err != nil {
			return admission.Errored(http.StatusBadRequest, errors.New("`request.oldObject` is not a Pod"))
		}
		return h.update(ctx, request.Namespace, &before, &pod)
	default:
		return admission.Allowed("neither created nor changed")
	}
}

func (h *Handler) create(ctx context.Context, name string, pod *corev1.Pod) admission.Response {
	namespace, ok := h.await(ctx, name)
	if !ok {
		return admission.Errored(http.StatusServiceUnavailable, fmt.Errorf(
			"still preparing namespace '%s', whose Secret '%s' does not exist yet; try again in a few seconds, "+
				"and if it stays so, look at the log of 'deployment/berth-controller' in '%s'",
			name, v1alpha1.PullSecret, v1alpha1.SystemNamespace))
	}
	after, report, err := rewrite.Pod(pod, namespace, h.connectors, h.policy())
	if err != nil {
		return refused(err)
	}
	return respond(pod, after, report)
}

// update waits for nothing: a Pod that lists no pull secret is left alone anyway.
func (h *Handler) update(ctx context.Context, name string, before, pod *corev1.Pod) admission.Response {
	namespace, ok := h.cluster.Namespace(ctx, name)
	if !ok {
		return admission.Errored(http.StatusServiceUnavailable, fmt.Errorf("namespace '%s' is not known yet; try again in a few seconds", name))
	}
	after, report, err := rewrite.Update(before, pod, namespace, h.connectors, h.policy())
	if err != nil {
		return refused(err)
	}
	return respond(pod, after, report)
}

// await returns the namespace once it has its pull secret.
func (h *Handler) await(ctx context.Context, name string) (namespace rewrite.Namespace, ok bool) {
	look := func(ctx context.Context) (bool, error) {
		namespace, ok = h.cluster.Namespace(ctx, name)
		return ok && h.cluster.HasPullSecret(ctx, name), nil
	}
	if prepared, _ := look(ctx); prepared { // timers are for those who wait
		return namespace, true
	}
	err := wait.PollUntilContextTimeout(ctx, waitInterval, waitLimit, false, look)
	return namespace, err == nil
}

func refused(err error) admission.Response {
	var refusal *rewrite.Refusal
	if !errors.As(err, &refusal) {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	response := admission.Denied(refusal.Error())
	response.AuditAnnotations = map[string]string{"refused": string(refusal.Reason)}
	return response
}

func respond(before, after *corev1.Pod, report rewrite.Report) admission.Response {
	response := admission.Patched("", diff(before, after)...)
	response.Warnings = warnings(report)
	response.AuditAnnotations = map[string]string{auditKey(before): audit(report)}
	return response
}
