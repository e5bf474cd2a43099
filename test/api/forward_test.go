package api_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api/v1alpha1"
)

// TestForward: what the forward proxy needs is there, by the rights that the manifests give: the token in each
// opted-in namespace, and an authority for each Connector as long as it exists.
func TestForward(t *testing.T) {
	w := enter(t)
	n := w.opted("forward")
	w.ok(eventually(w.ctx, "the token", func(ctx context.Context) error {
		var s corev1.Secret
		if err := w.client.Get(ctx, types.NamespacedName{Namespace: n.Name, Name: v1alpha1.ProxySecret}, &s); err != nil {
			return err
		}
		if len(s.Data[v1alpha1.ProxySecretToken]) == 0 || s.Type != corev1.SecretTypeOpaque {
			return errors.New("it holds no token")
		}
		return nil
	}))
	c := &v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: n.Name, Name: "harbor"},
		Spec:       v1alpha1.ConnectorSpec{ConnectorClassName: "oci", Address: "https://nowhere.test"},
	}
	w.ok(w.client.Create(w.ctx, c))
	authority := types.NamespacedName{Namespace: v1alpha1.InterceptionNamespace, Name: n.Name + ".harbor"}
	w.ok(eventually(w.ctx, "the authority", func(ctx context.Context) error {
		var s corev1.Secret
		if err := w.client.Get(ctx, authority, &s); err != nil {
			return err
		}
		var published v1alpha1.Connector
		if err := w.client.Get(ctx, types.NamespacedName{Namespace: n.Name, Name: "harbor"}, &published); err != nil {
			return err
		}
		if s.Labels[v1alpha1.LabelConnectorUID] != string(published.UID) || !strings.Contains(published.Status.Proxy.InterceptionCABundle, "BEGIN CERTIFICATE") {
			return errors.New("it is not published")
		}
		return nil
	}))
	w.ok(w.client.Delete(w.ctx, c))
	w.ok(eventually(w.ctx, "the authority to go", func(ctx context.Context) error {
		err := w.client.Get(ctx, authority, &corev1.Secret{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is there"), err)
	}))
}
