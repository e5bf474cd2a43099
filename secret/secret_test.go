package secret_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
	"berth.dev/berth/secret"
)

func object(name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: name}, Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{}}
	for key, value := range data {
		s.Data[key] = []byte(value)
	}
	return s
}

func key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "demo", Name: name}
}

// reason is what a condition says about the outcome.
func reason(t testing.TB, err error) string {
	t.Helper()
	var problem *secret.Problem
	switch {
	case err == nil:
		return v1alpha1.ReasonFound
	case !errors.As(err, &problem):
		t.Fatalf("%v is no *Problem", err)
	case problem.Secret.Namespace != "demo" || problem.Detail == "":
		t.Errorf("Problem is %+v", problem)
	}
	return problem.Reason
}

func TestReadBasic(t *testing.T) {
	t.Parallel()
	const user, password = "robot$puller", "s3cr:et"
	for name, tc := range map[string]struct {
		data map[string]string
		as   corev1.SecretType
		want string
	}{
		"sound":          {data: map[string]string{"username": user, "password": password}, as: corev1.SecretTypeBasicAuth, want: v1alpha1.ReasonFound},
		"more keys":      {data: map[string]string{"username": user, "password": password, "note": "x"}, as: corev1.SecretTypeBasicAuth, want: v1alpha1.ReasonFound},
		"another type":   {data: map[string]string{"username": user, "password": password}, as: corev1.SecretTypeOpaque, want: v1alpha1.ReasonSecretTypeWrong},
		"no user":        {data: map[string]string{"password": password}, as: corev1.SecretTypeBasicAuth, want: v1alpha1.ReasonSecretEmpty},
		"empty password": {data: map[string]string{"username": user, "password": ""}, as: corev1.SecretTypeBasicAuth, want: v1alpha1.ReasonSecretEmpty},
		"colon":          {data: map[string]string{"username": "robot:" + user, "password": password}, as: corev1.SecretTypeBasicAuth, want: v1alpha1.ReasonCredentialInvalid},
		"line break":     {data: map[string]string{"username": user, "password": password + "\n"}, as: corev1.SecretTypeBasicAuth, want: v1alpha1.ReasonCredentialInvalid},
		"CR in the user": {data: map[string]string{"username": user + "\r", "password": password}, as: corev1.SecretTypeBasicAuth, want: v1alpha1.ReasonCredentialInvalid},
		"nothing":        {as: corev1.SecretTypeBasicAuth, want: v1alpha1.ReasonSecretEmpty},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := secret.ReadBasic(object("login", tc.data), tc.as)
			if diff := cmp.Diff(tc.want, reason(t, err)); diff != "" {
				t.Fatalf("reason (-want +got):\n%s", diff)
			}
			if err == nil && !got.Equal(secret.NewBasic(user, password)) || err != nil && !got.IsZero() {
				t.Error("the credential is another")
			}
			if err != nil && strings.Contains(err.Error(), password) {
				t.Errorf("the error holds the password: %v", err)
			}
		})
	}
}

func TestReadCACert(t *testing.T) {
	t.Parallel()
	authority, _, _, err := certs.Authorities{}.Step("berth test", certs.Scope{Domains: []string{"example.com"}}, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	sound := string(authority.Bundle())
	for name, tc := range map[string]struct{ bundle, want string }{
		"sound":           {bundle: sound, want: v1alpha1.ReasonFound},
		"two":             {bundle: sound + sound, want: v1alpha1.ReasonFound},
		"empty":           {want: v1alpha1.ReasonSecretEmpty},
		"text":            {bundle: "certificate", want: v1alpha1.ReasonCertificateInvalid},
		"no certificate":  {bundle: "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", want: v1alpha1.ReasonCertificateInvalid},
		"certificate bad": {bundle: sound + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", want: v1alpha1.ReasonCertificateInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := secret.ReadCACert(object("ca", map[string]string{v1alpha1.CACertKey: tc.bundle}))
			if diff := cmp.Diff(tc.want, reason(t, err)); diff != "" {
				t.Errorf("reason (-want +got):\n%s", diff)
			}
			if err == nil && string(got) != tc.bundle || err != nil && got != nil {
				t.Errorf("ReadCACert = %s", got)
			}
		})
	}
}
