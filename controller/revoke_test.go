package controller

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/token"
)

// TestRevoke: a namespace with another token generation gets a new token of it at once, in the same Secret.
func TestRevoke(t *testing.T) {
	s := newShop(t, namespace(true))
	s.look(t, pullTokenRenew, create)
	before := s.holds(t, "shop-uid", "c-*.shop.svc.cluster.local")
	n := read(t, s.Client, "", "shop", &corev1.Namespace{})
	metav1.SetMetaDataAnnotation(&n.ObjectMeta, v1alpha1.AnnotationTokenGeneration, "2")
	if err := s.Client.Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	s.writes.since()
	s.look(t, pullTokenRenew, renew)
	after := s.holds(t, "shop-uid", "c-*.shop.svc.cluster.local")
	if after.UID != before.UID {
		t.Error("the Secret was made anew, and kubelet remembers its UID")
	}
	signed, ok := s.Kind.held(callerOf(n), after.Data)
	claims, err := s.keys.Public().Verify(signed, s.clock.Now(), token.AudiencePull)
	if !ok || err != nil || claims.Generation != "2" {
		t.Errorf("the Secret holds a token of %+v, %v", claims, err)
	}
	s.look(t, pullTokenRenew)
}
