package api_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// TestFence: with the controller's own token, no Secret but Berth's can be read or written.
func TestFence(t *testing.T) {
	w := enter(t)
	config, err := clientcmd.BuildConfigFromFlags("", w.path(controllerAccount))
	w.ok(err)
	c, err := client.New(config, client.Options{Scheme: w.client.Scheme()})
	w.ok(err)
	opted, plain := w.opted("fence"), w.namespace("fence")
	secret := func(namespace, name string, kind corev1.SecretType) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: kind,
			StringData: map[string]string{corev1.DockerConfigJsonKey: "{}"},
		}
	}
	foreign := secret(opted.Name, "foreign", corev1.SecretTypeDockerConfigJson)
	left := secret(plain.Name, v1alpha1.PullSecret, corev1.SecretTypeDockerConfigJson)
	w.ok(w.client.Create(w.ctx, foreign))
	w.ok(w.client.Create(w.ctx, left))
	edited := left.DeepCopy()
	edited.StringData = map[string]string{corev1.DockerConfigJsonKey: `{"auths":{}}`}
	const fence = "ValidatingAdmissionPolicy 'berth-fence'"
	for name, tc := range map[string]struct {
		err  error
		says string
	}{
		"another name":                    {c.Create(w.ctx, secret(opted.Name, "mine", corev1.SecretTypeDockerConfigJson)), fence},
		"another type of berth-proxy":     {c.Create(w.ctx, secret(opted.Name, v1alpha1.ProxySecret, corev1.SecretTypeDockerConfigJson)), fence},
		"berth-proxy, not opted in":       {c.Create(w.ctx, secret(w.namespace("fence").Name, v1alpha1.ProxySecret, corev1.SecretTypeOpaque)), fence},
		"no authority, among those":       {c.Create(w.ctx, secret(v1alpha1.InterceptionNamespace, "mine", corev1.SecretTypeOpaque)), fence},
		"another type":                    {c.Create(w.ctx, secret(opted.Name, v1alpha1.PullSecret, corev1.SecretTypeOpaque)), fence},
		"a token of a ServiceAccount":     {c.Create(w.ctx, tokenOf(v1alpha1.TokenKeys, "berth-proxy")), fence},
		"a namespace that did not opt in": {c.Create(w.ctx, secret(w.namespace("fence").Name, v1alpha1.PullSecret, corev1.SecretTypeDockerConfigJson)), fence},
		"an update where not opted in":    {c.Update(w.ctx, edited), fence},
		"kube-system":                     {c.Create(w.ctx, secret("kube-system", v1alpha1.TokenKeys, corev1.SecretTypeOpaque)), fence},
		"another one of its own":          {c.Create(w.ctx, secret(v1alpha1.SystemNamespace, "mine", corev1.SecretTypeOpaque)), fence},
		"a generated name":                {c.Create(w.ctx, generated(secret(opted.Name, "", corev1.SecretTypeDockerConfigJson))), fence},
		"list":                            {c.List(w.ctx, &corev1.SecretList{}), "cannot list resource"},
		"list of one namespace":           {c.List(w.ctx, &corev1.SecretList{}, client.InNamespace(opted.Name)), "cannot list resource"},
		"read":                            {c.Get(w.ctx, client.ObjectKeyFromObject(foreign), &corev1.Secret{}), "cannot get resource"},
		"update":                          {c.Update(w.ctx, foreign.DeepCopy()), "cannot update resource"},
		"delete":                          {c.Delete(w.ctx, foreign.DeepCopy()), "cannot delete resource"},
		"delete all":                      {c.DeleteAllOf(w.ctx, &corev1.Secret{}, client.InNamespace(opted.Name)), "cannot deletecollection resource"},
		"opt a namespace in":              {c.Patch(w.ctx, plain.DeepCopy(), merge(`{"metadata":{"labels":{"`+v1alpha1.LabelInject+`":"enabled"}}}`)), "cannot patch resource"},
		"change a Connector":              {c.Update(w.ctx, &v1alpha1.Connector{ObjectMeta: metav1.ObjectMeta{Namespace: "berth-system", Name: "registry"}}), "cannot update resource"},
		"make a Pod":                      {c.Create(w.ctx, pod(opted.Name, "x.test/y")), "cannot create resource"},
	} {
		if !apierrors.IsForbidden(tc.err) && !apierrors.IsInvalid(tc.err) || !strings.Contains(tc.err.Error(), tc.says) {
			t.Errorf("%s: %v", name, tc.err)
		}
	}
	w.ok(c.Delete(w.ctx, left)) // what Berth made may go after the namespace opted out
}

func generated(s *corev1.Secret) *corev1.Secret {
	s.GenerateName = v1alpha1.PullSecret
	return s
}

// tokenOf asks for a token of a ServiceAccount by way of a Secret.
func tokenOf(name, account string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: v1alpha1.SystemNamespace, Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: account},
		},
		Type: corev1.SecretTypeServiceAccountToken,
	}
}
