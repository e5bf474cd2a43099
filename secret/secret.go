// Package secret reads the Secrets that Connectors name, and nothing else.
//
// Berth has no right on Secrets at large: a Role in each connector namespace
// lets it read the ones that Connectors of that namespace name. So there is no
// informer over all Secrets; a Follower watches each Secret by itself, by name,
// and knows for each whether it exists, or why it cannot be read.
//
// What is read becomes a value that does not let itself be printed (Basic), or
// a Problem: a reason for machines beside a sentence that says what to do.
package secret

import (
	"fmt"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
)

// Problem is why a Secret is of no use. It never holds any of the Secret's data.
type Problem struct {
	// Secret is the one that is meant.
	Secret types.NamespacedName
	// Reason is one of the Secret reasons of v1alpha1, for a condition.
	Reason string
	// Detail says what is wrong and what to do.
	Detail string
}

// Error is the detail with the Secret's name.
func (p *Problem) Error() string {
	return fmt.Sprintf("Secret '%s': %s", p.Secret, p.Detail)
}

// ReadBasic returns the credential in a Secret of the given type, such as
// kubernetes.io/basic-auth, from its keys `username` and `password`. Every
// error is a *Problem.
func ReadBasic(s *corev1.Secret, want corev1.SecretType) (Basic, error) {
	if s.Type != want {
		return Basic{}, problem(s, v1alpha1.ReasonSecretTypeWrong,
			"its type is '%s' and must be '%s'; a Secret's type cannot be changed: delete it and create it anew with `type: %s`", s.Type, want, want)
	}
	for _, key := range []string{corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey} {
		if len(s.Data[key]) == 0 {
			return Basic{}, problem(s, v1alpha1.ReasonSecretEmpty,
				"its key `%s` is missing or empty; write the registry's user name into `username` and the password into `password`", key)
		}
	}
	username, password := string(s.Data[corev1.BasicAuthUsernameKey]), string(s.Data[corev1.BasicAuthPasswordKey])
	if strings.Contains(username, ":") {
		return Basic{}, problem(s, v1alpha1.ReasonCredentialInvalid,
			"the user name under `username` holds a ':', which no user name may (RFC 7617); write the user name alone, and the password into `password`")
	}
	if strings.ContainsFunc(username+password, unicode.IsControl) {
		return Basic{}, problem(s, v1alpha1.ReasonCredentialInvalid,
			"its key `username` or `password` holds a line break or another control character, which `echo` adds at the end; write both anew without it, as `kubectl create secret generic --from-literal` or `printf %%s` does")
	}
	return NewBasic(username, password), nil
}

// ReadCACert returns the PEM certificates under `ca.crt`, after a look that
// there are any. Every error is a *Problem.
func ReadCACert(s *corev1.Secret) ([]byte, error) {
	bundle := s.Data[v1alpha1.CACertKey]
	if len(bundle) == 0 {
		return nil, problem(s, v1alpha1.ReasonSecretEmpty,
			"its key `%s` is missing or empty; write there, in PEM, the certificate that signs the registry's", v1alpha1.CACertKey)
	}
	if _, err := certs.ParseCertificates(bundle); err != nil {
		return nil, problem(s, v1alpha1.ReasonCertificateInvalid, "its key `%s` must hold certificates in PEM: %v", v1alpha1.CACertKey, err)
	}
	return bundle, nil
}

func problem(s *corev1.Secret, reason, format string, args ...any) *Problem {
	return &Problem{
		Secret: types.NamespacedName{Namespace: s.Namespace, Name: s.Name},
		Reason: reason, Detail: fmt.Sprintf(format, args...),
	}
}
