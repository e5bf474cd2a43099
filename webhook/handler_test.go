package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/config"
	"berth.dev/berth/rewrite"
)

// known is a cluster whose namespaces are all there, but 'unknown', and prepared, but 'new'.
type known struct{}

func (known) Namespace(_ context.Context, name string) (rewrite.Namespace, bool) {
	return rewrite.Namespace{Name: name}, name != "unknown"
}

func (known) HasPullSecret(_ context.Context, namespace string) bool { return namespace != "new" }

func handler(t testing.TB) *Handler {
	t.Helper()
	connector, err := access.New(&v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: "registry"},
		Spec: v1alpha1.ConnectorSpec{Address: "https://registry.test", Access: []v1alpha1.AccessRule{
			{Namespaces: v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromAll}, Repositories: []string{"team/**"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var catalogue access.Catalogue
	catalogue.Put(connector)
	policy := config.Default()
	return New(known{}, &catalogue, func() *rewrite.Policy { return &policy })
}

func request(operation admissionv1.Operation, namespace, object, old string) admission.Request {
	r := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: operation, Namespace: namespace, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
	}}
	r.Object.Raw, r.OldObject.Raw = []byte(object), []byte(old)
	return r
}

func skips(n int, reason rewrite.Reason, detail string) (report rewrite.Report) {
	for i := range n {
		report.Skips = append(report.Skips, rewrite.Skip{Field: fmt.Sprintf("f%d", i), Reason: reason, Detail: detail})
	}
	return report
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		report rewrite.Report
		count  int
		last   string
	}{
		"nothing":      {rewrite.Report{}, 0, ""},
		"no news":      {skips(20, rewrite.ReasonNoConnector, ""), 0, ""},
		"ten":          {skips(10, rewrite.ReasonNotGranted, "x"), 10, "NotGranted: `f9` "},
		"eleven":       {skips(11, rewrite.ReasonNotGranted, "x"), 11, "Berth left 1 more images alone"},
		"a long one":   {skips(1, rewrite.ReasonNotGranted, strings.Repeat("x", 300)), 1, "NotGranted: "},
		"of two bytes": {skips(1, rewrite.ReasonNotGranted, strings.Repeat("ü", 300)), 1, "NotGranted: "},
		"of four":      {skips(1, rewrite.ReasonNotGranted, strings.Repeat("🚢", 300)), 1, "NotGranted: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := warnings(tc.report)
			if len(list) != tc.count || tc.count > 0 && !strings.HasPrefix(list[len(list)-1], tc.last) {
				t.Fatalf("%d warnings: %q", len(list), list)
			}
			for _, text := range list {
				if len(text) > longestWarning || !utf8.ValidString(text) {
					t.Errorf("%d bytes, valid %t: %q", len(text), utf8.ValidString(text), text)
				}
			}
		})
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                             "",
		strings.Repeat("x", 256):       strings.Repeat("x", 256),
		strings.Repeat("x", 257):       strings.Repeat("x", 253) + "…",
		strings.Repeat("ü", 128):       strings.Repeat("ü", 128),
		strings.Repeat("ü", 129):       strings.Repeat("ü", 126) + "…",
		"x" + strings.Repeat("ü", 128): "x" + strings.Repeat("ü", 126) + "…",
	} {
		if got := cut(in); got != want {
			t.Errorf("%d bytes become %d, must be %d", len(in), len(got), len(want))
		}
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	report := skips(3, rewrite.ReasonNotGranted, "")
	report.Changes = []rewrite.Change{{Reason: rewrite.ReasonRewritten}, {Reason: rewrite.ReasonRewritten}, {Reason: rewrite.ReasonProxyAdded}}
	if got := audit(report); got != "NotGranted=3,ProxyAdded=1,Rewritten=2" {
		t.Error(got)
	}
	if got := audit(rewrite.Report{}); got != "" {
		t.Error(got)
	}
}

// TestPatch: every operation is about a field that was meant, and none about
// one that the types write though nobody set it.
func TestPatch(t *testing.T) {
	t.Parallel()
	const pod = `{"metadata":{"name":"p","unknown":1},"spec":{"containers":[{"name":"a","image":"registry.test/team/app:v1","unknown":{"x":1}},` +
		`{"name":"b","image":"elsewhere.test/b"}],"unknown":true}}`
	response := handler(t).Handle(t.Context(), request(admissionv1.Create, "shop", pod, ""))
	want := map[string]any{
		"replace /spec/containers/0/image": "c-registry.berth-system.svc.cluster.local/namespaces/berth-system/connectors/registry/team/app:v1",
		"add /spec/imagePullSecrets":       []corev1.LocalObjectReference{{Name: "berth-pull"}},
		"add /metadata/annotations":        map[string]string{v1alpha1.AnnotationOriginalImages: `{"spec.containers{a}.image":"registry.test/team/app:v1"}`},
	}
	if diff := cmp.Diff(want, byPath(response.Patches)); diff != "" || !response.Allowed {
		t.Errorf("allowed %t (-want +got):\n%s", response.Allowed, diff)
	}
	if diff := cmp.Diff(map[string]string{"report": "NoConnector=1,Rewritten=1"}, response.AuditAnnotations); diff != "" {
		t.Error(diff)
	}
}

func byPath(ops []jsonpatch.Operation) map[string]any {
	m := map[string]any{}
	for _, op := range ops {
		m[op.Operation+" "+op.Path] = op.Value
	}
	return m
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	const pod = `{"spec":{"containers":[{"name":"a","image":"registry.test/team/app:v1"}]}}`
	other := request(admissionv1.Create, "shop", pod, "")
	other.Resource.Resource = "services"
	status := request(admissionv1.Update, "shop", pod, pod)
	status.SubResource = "status"
	for name, tc := range map[string]struct {
		request admission.Request
		code    int32
		says    string
	}{
		"another resource":     {other, http.StatusOK, ""},
		"another subresource":  {status, http.StatusOK, ""},
		"another operation":    {request(admissionv1.Delete, "shop", "{}", pod), http.StatusOK, ""},
		"nothing changes":      {request(admissionv1.Update, "shop", pod, pod), http.StatusOK, ""},
		"no Pod":               {request(admissionv1.Create, "shop", `"x"`, ""), http.StatusBadRequest, "`request.object`"},
		"no Pod before":        {request(admissionv1.Update, "shop", pod, ``), http.StatusBadRequest, "`request.oldObject`"},
		"unknown namespace":    {request(admissionv1.Update, "unknown", pod, pod), http.StatusServiceUnavailable, "try again"},
		"unprepared namespace": {request(admissionv1.Create, "new", pod, ""), http.StatusServiceUnavailable, "try again"},
		"a contradiction": {
			request(admissionv1.Create, "shop", `{"metadata":{"annotations":{"`+v1alpha1.AnnotationConnector+`":"gone"}}}`, ""),
			http.StatusForbidden, "ConnectorNotFound",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response := handler(t).Handle(t.Context(), tc.request)
			if response.Result.Code != tc.code || response.Allowed != (tc.code == http.StatusOK) || len(response.Patches) > 0 ||
				!strings.Contains(response.Result.Message, tc.says) {
				t.Errorf("%+v", response)
			}
		})
	}
}

// FuzzHandle: whatever comes, an answer goes out, and the patch of one that is
// allowed applies to what came.
func FuzzHandle(f *testing.F) {
	pod := `{"metadata":{"annotations":{"connectors.berth.dev/proxy":"always","connectors.berth.dev/original-images":"{}"}},` +
		`"spec":{"containers":[{"name":"a","image":"registry.test/team/app:v1","env":[{"name":"NO_PROXY"}]}],"volumes":[{"name":"v","image":{"reference":"nginx"}}]}}`
	f.Add(true, pod, pod)
	f.Add(false, strings.ReplaceAll(pod, ":v1", ":v2"), strings.ReplaceAll(pod, `"spec":{`, `"spec":{"imagePullSecrets":[{"name":"berth-pull"}],`))
	f.Add(true, `{}`, `null`)
	f.Add(false, `null`, `{"spec":null}`)
	h := handler(f)
	f.Fuzz(func(t *testing.T, create bool, object, old string) {
		operation := admissionv1.Update
		if create {
			operation = admissionv1.Create
		}
		check(t, h.Handle(t.Context(), request(operation, "shop", object, old)))
	})
}

// check holds for every answer.
func check(t *testing.T, response admission.Response) {
	t.Helper()
	if response.Result == nil || !response.Allowed && (len(response.Patches) > 0 || response.Result.Message == "") {
		t.Errorf("%+v", response)
	}
	for _, text := range response.Warnings {
		if len(text) > longestWarning || !utf8.ValidString(text) {
			t.Errorf("warning %q", text)
		}
	}
	if _, err := json.Marshal(response.Patches); err != nil {
		t.Error(err)
	}
	for _, op := range response.Patches {
		if !strings.HasPrefix(op.Path, "/spec/") && !strings.HasPrefix(op.Path, "/metadata/annotations") {
			t.Errorf("an operation that was not meant: %s", op.Json())
		}
	}
}

// TestRandomReviews: random Pods, sound and not, as deep structures that the fuzzer of bytes seldom finds.
func TestRandomReviews(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		all := []string{"", "a", "registry.test/team/app:v1", "nginx", "berth-pull", "always", "registry", "a,b", "{}", "\x00", "🚢", strings.Repeat("x", 300)}
		return all[r.IntN(len(all))]
	}
	h := handler(t)
	for range 2000 {
		var pods [2]corev1.Pod
		for i := range pods {
			p := &pods[i]
			p.Annotations = map[string]string{}
			for _, key := range []string{
				v1alpha1.AnnotationConnector, v1alpha1.AnnotationImages, v1alpha1.AnnotationProxy,
				v1alpha1.AnnotationConfigurations, v1alpha1.AnnotationOriginalImages,
			} {
				if r.IntN(4) == 0 {
					p.Annotations[key] = text()
				}
			}
			for range r.IntN(4) {
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: text(), Image: text(), Env: []corev1.EnvVar{{Name: text(), Value: text()}}})
				p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: text(), VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: text()}}})
				p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: text()})
			}
		}
		object, err := json.Marshal(pods[0])
		if err != nil {
			t.Fatal(err)
		}
		old, err := json.Marshal(pods[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, operation := range []admissionv1.Operation{admissionv1.Create, admissionv1.Update} {
			check(t, h.Handle(t.Context(), request(operation, "shop", string(object), string(old))))
		}
	}
}
