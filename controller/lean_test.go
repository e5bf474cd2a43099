package controller

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"

	"berth.dev/berth/api/v1alpha1"
)

// TestLeanService: the Service that Berth made is known for its own, and a foreign or changed one for what it is, also as the cache keeps them.
func TestLeanService(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*corev1.Service)
		ours   bool
	}{
		"as made":       {func(*corev1.Service) {}, true},
		"leads astray":  {func(s *corev1.Service) { s.Spec.ExternalName = "elsewhere.example.com" }, false},
		"of a type":     {func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }, false},
		"nobody's":      {func(s *corev1.Service) { s.OwnerReferences = nil }, false},
		"somebody's":    {func(s *corev1.Service) { s.OwnerReferences[0].UID = "another" }, false},
		"not its owner": {func(s *corev1.Service) { s.OwnerReferences[0].Controller = nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := harbor()
			made, err := newScene(t, newRegistry(t, nil), c).service(c)
			if err != nil {
				t.Fatal(err)
			}
			made.UID, made.Spec.SessionAffinity = "u", corev1.ServiceAffinityNone
			made.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m"}}
			tc.change(made)
			lean, err := LeanService(made)
			if err != nil {
				t.Fatal(err)
			}
			kept, ok := lean.(*corev1.Service)
			if !ok || kept.UID != "" || kept.Labels != nil || kept.ManagedFields != nil || kept.Spec.SessionAffinity != "" {
				t.Fatalf("kept is %v", lean)
			}
			kept.ResourceVersion = ""
			ours, err := newScene(t, newRegistry(t, nil), c, kept).ensureService(t.Context(), c)
			if err != nil || ours != tc.ours {
				t.Errorf("Berth's own: %t, want %t: %v", ours, tc.ours, err)
			}
		})
	}
}

func TestLeanConnectorsShareTheProxysCertificates(t *testing.T) {
	t.Parallel()
	lean := LeanConnectors()
	through := func(bundle string) string {
		c := harbor()
		c.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m"}}
		c.Status.Proxy.HTTPAddress = &v1alpha1.ProxyAddress{URL: "https://x", CABundle: strings.Clone(bundle)}
		want := c.DeepCopy()
		want.ManagedFields = nil
		got, err := lean(c)
		if diff := cmp.Diff(any(want), got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		return c.Status.Proxy.HTTPAddress.CABundle
	}
	first, second, other, back := through("one"), through("one"), through("another"), through("one")
	if unsafe.StringData(first) != unsafe.StringData(second) {
		t.Error("the same certificates are kept twice")
	}
	if other != "another" || back != "one" {
		t.Errorf("certificates were mixed up: '%s', '%s'", other, back)
	}
	if got, err := lean(harbor()); err != nil || got == nil {
		t.Errorf("a Connector without a status: %v, %v", got, err)
	}
}

func TestLeanLeavesOtherThingsAlone(t *testing.T) {
	t.Parallel()
	for _, lean := range []func(any) (any, error){LeanService, LeanConnectors()} {
		gone := toolscache.DeletedFinalStateUnknown{Key: "demo/c-harbor"}
		if got, err := lean(gone); got != any(gone) || err != nil {
			t.Errorf("%v became %v: %v", gone, got, err)
		}
	}
}
