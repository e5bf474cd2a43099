package api_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api/v1alpha1"
)

// TestReinvocation: a webhook that comes after Berth adds a sidecar; Berth is
// called again, and rewrites that, too.
func TestReinvocation(t *testing.T) {
	w := enter(t)
	n := w.opted("sidecar", "test", "sidecar")
	server := httptest.NewTLSServer(http.HandlerFunc(addSidecar))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	hook := &registrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "sidecar"}, // after 'berth'
		Webhooks: []registrationv1.MutatingWebhook{{
			Name: "sidecar.test.test", AdmissionReviewVersions: []string{"v1"}, SideEffects: new(registrationv1.SideEffectClassNone),
			ClientConfig:      registrationv1.WebhookClientConfig{URL: &server.URL, CABundle: ca},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"test": "sidecar"}},
			Rules: []registrationv1.RuleWithOperations{{
				Operations: []registrationv1.OperationType{registrationv1.Create},
				Rule:       registrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}
	w.ok(w.client.Create(w.ctx, hook))
	defer func() { w.ok(w.client.Delete(context.WithoutCancel(w.ctx), hook)) }()
	var p *corev1.Pod
	w.ok(eventually(w.ctx, "the API server to know the other webhook", func(ctx context.Context) error {
		p = pod(n.Name, "registry.test/team/app:v1")
		if err := w.client.Create(ctx, p); err != nil || len(p.Spec.Containers) == 2 {
			return err
		}
		return errNone
	}))
	w.equal("images", images(p), []string{routed("team/sidecar:v1"), routed("team/app:v1")})
	w.equal("original images", originals(t, p), map[string]string{
		"spec.containers{a}.image": "registry.test/team/app:v1", "spec.containers{sidecar}.image": "registry.test/team/sidecar:v1",
	})
	w.equal("pull secrets", p.Spec.ImagePullSecrets, []corev1.LocalObjectReference{{Name: v1alpha1.PullSecret}})
	e := w.event("create", p, "")
	w.equal("rounds and reports", []any{e.rounds(), e.said("report"), e.said("report-again")}, []any{2, "Rewritten=1", "AlreadyRouted=1,Rewritten=1"})
}

// addSidecar is a webhook that puts a container before the others.
func addSidecar(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	patch := []byte(`[{"op":"add","path":"/spec/containers/0","value":{"name":"sidecar","image":"registry.test/team/sidecar:v1"}}]`)
	review.Response = &admissionv1.AdmissionResponse{
		UID: review.Request.UID, Allowed: true, Patch: patch, PatchType: new(admissionv1.PatchTypeJSONPatch),
	}
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review)
}
