package rewrite_test

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/rewrite"
)

// TestOriginalImagesHaveRoom: the original images are noted up to the last byte that the API server lets annotations
// have. With one byte less they are left out, and no Pod that it took without Berth is refused for them.
func TestOriginalImagesHaveRoom(t *testing.T) {
	t.Parallel()
	const noted = `{"spec.containers{app}.image":"harbor.example.com/t/a:1"}`
	for name, tc := range map[string]struct {
		have   string // what stands where the original images are noted; "": nothing
		taken  int    // of the limit, by other annotations and what is noted
		reason rewrite.Reason
	}{
		"it just fits":                {taken: apivalidation.TotalAnnotationSizeLimitB},
		"one byte too many":           {taken: apivalidation.TotalAnnotationSizeLimitB + 1, reason: rewrite.ReasonAnnotationsFull},
		"in the place of another":     {have: `"text"`, taken: apivalidation.TotalAnnotationSizeLimitB},
		"longer than what it was":     {have: `"text"`, taken: apivalidation.TotalAnnotationSizeLimitB + 1, reason: rewrite.ReasonAnnotationsFull},
		"as much room as anybody has": {taken: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const key = "k"
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
					key: strings.Repeat("x", tc.taken-len(key)-len(v1alpha1.AnnotationOriginalImages)-len(noted)),
				}},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: registry + "/t/a:1"}}},
			}
			want := noted
			if tc.have != "" {
				pod.Annotations[v1alpha1.AnnotationOriginalImages] = tc.have
			}
			if tc.reason != "" {
				want = tc.have
			}
			s := fuzzScene(t)
			s.pod = pod
			after, report, err := s.run()
			if err != nil || after.Spec.Containers[0].Image == registry+"/t/a:1" {
				t.Fatalf("must be rewritten all the same: %v", err)
			}
			if diff := gocmp.Diff(want, after.Annotations[v1alpha1.AnnotationOriginalImages]); diff != "" {
				t.Errorf("original images (-want +got):\n%s", diff)
			}
			if told := len(report.Skips) == 1 && report.Skips[0].Reason == tc.reason; told != (tc.reason != "") {
				t.Errorf("skips: %v", report.Skips)
			}
			if wrong := apivalidation.ValidateAnnotations(after.Annotations, field.NewPath("metadata")); len(wrong) > 0 {
				t.Errorf("the API server would say: %v", wrong.ToAggregate())
			}
			laws(t, s)
		})
	}
}
