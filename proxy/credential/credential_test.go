package credential

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
	"berth.dev/berth/secret"
)

// secrets holds the Secrets of namespace 'demo' by name.
type secrets map[string]*corev1.Secret

func (s secrets) Get(_ context.Context, name types.NamespacedName) (*corev1.Secret, error) {
	if found, ok := s[name.Name]; ok && name.Namespace == "demo" {
		return found, nil
	}
	return nil, &secret.Problem{Secret: name, Reason: v1alpha1.ReasonSecretNotFound}
}

func made(name, version string, kind corev1.SecretType, content map[string][]byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: name, UID: types.UID("uid-" + name), ResourceVersion: version},
		Type:       kind, Data: content,
	}
}

func connector(spec v1alpha1.ConnectorSpec) *access.Connector {
	return &access.Connector{Connector: route.Connector{Namespace: "demo", Name: "harbor"}, Spec: &spec}
}

func auth(way, name string) v1alpha1.ConnectorSpec {
	return v1alpha1.ConnectorSpec{Auth: &v1alpha1.ConnectorAuth{Name: way, SecretRef: v1alpha1.SecretReference{Name: name}}}
}

func TestCredential(t *testing.T) {
	login := map[string][]byte{"username": []byte("robot"), "password": []byte("hunter2")}
	source := NewSource(secrets{
		"good":   made("good", "7", corev1.SecretTypeBasicAuth, login),
		"opaque": made("opaque", "1", corev1.SecretTypeOpaque, login),
		"empty":  made("empty", "1", corev1.SecretTypeBasicAuth, map[string][]byte{"username": []byte("robot")}),
	})
	for name, test := range map[string]struct {
		spec   v1alpha1.ConnectorSpec
		reason string
		want   secret.Basic
	}{
		"none":         {v1alpha1.ConnectorSpec{}, "", secret.Basic{}},
		"good":         {auth(v1alpha1.AuthBasic, "good"), "", secret.NewBasic("robot", "hunter2")},
		"missing":      {auth(v1alpha1.AuthBasic, "missing"), v1alpha1.ReasonSecretNotFound, secret.Basic{}},
		"wrong type":   {auth(v1alpha1.AuthBasic, "opaque"), v1alpha1.ReasonSecretTypeWrong, secret.Basic{}},
		"no password":  {auth(v1alpha1.AuthBasic, "empty"), v1alpha1.ReasonSecretEmpty, secret.Basic{}},
		"other way in": {auth("kerberos", "good"), v1alpha1.ReasonAuthNotSupported, secret.Basic{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := source.Authorize(t.Context(), connector(test.spec), nil, nil)
			if reason := reason(err); reason != test.reason {
				t.Fatalf("%v, want reason %q", err, test.reason)
			}
			r, want := httptest.NewRequest("GET", "/", nil), httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Authorization", "Bearer of-the-client")
			got.Authorize(r)
			test.want.Authorize(want)
			if diff := cmp.Diff(want.Header, r.Header); diff != "" {
				t.Errorf("header (-want +got)\n%s", diff)
			}
			if printed := fmt.Sprintf("%v %+v %#v %s", got, got, got, err); strings.Contains(printed, "hunter2") || strings.Contains(printed, "cm9ib3Q6") {
				t.Errorf("the password is printed: %s", printed)
			}
		})
	}
}

func TestAuthorities(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	bundle := []byte("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
	source := NewSource(secrets{
		"broken": made("broken", "3", corev1.SecretTypeOpaque, map[string][]byte{v1alpha1.CACertKey: bundle}),
		"empty":  made("empty", "4", corev1.SecretTypeOpaque, nil),
	})
	for name, test := range map[string]struct {
		secret            string
		version           Version
		reason, pemReason string
	}{
		"none":    {},
		"missing": {"missing", Version{}, v1alpha1.ReasonSecretNotFound, ""},
		"broken":  {"broken", Version{"uid-broken", "3"}, "", v1alpha1.ReasonCertificateInvalid},
		"empty":   {"empty", Version{"uid-empty", "4"}, "", v1alpha1.ReasonSecretEmpty},
	} {
		t.Run(name, func(t *testing.T) {
			var spec v1alpha1.ConnectorSpec
			if test.secret != "" {
				spec.CACertSecretRef = &v1alpha1.SecretReference{Name: test.secret}
			}
			got, err := source.Authorities(t.Context(), connector(spec))
			if got.Version != test.version || reason(err) != test.reason {
				t.Fatalf("version %v, %v, want %v, reason %q", got.Version, err, test.version, test.reason)
			}
			pem, err := got.PEM()
			if pem != nil || reason(err) != test.pemReason {
				t.Errorf("PEM: %q, %v, want reason %q", pem, err, test.pemReason)
			}
		})
	}
}

func reason(err error) string {
	if problem, ok := errors.AsType[*secret.Problem](err); ok {
		return problem.Reason
	}
	return ""
}
