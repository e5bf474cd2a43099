// Package credential says what authorises Berth towards a Connector's registry:
// the credential that goes with a request, and the certificates that the
// registry is verified by.
//
// Both come from the Secrets that the Connector names, each time as they are
// now, and each with a version: when the version of a credential changed, a
// request that the registry refused is worth another try; when that of the
// authorities did, connections have to be made anew. What is read stays in a
// value that does not print (secret.Basic), and what cannot be read is a
// *secret.Problem, which says what to do and holds none of the data.
package credential

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/secret"
)

// Secrets holds the Secrets that Connectors name. *secret.Follower is one.
type Secrets interface {
	// Get returns a Secret as it was last seen; its errors are *secret.Problem.
	Get(ctx context.Context, name types.NamespacedName) (*corev1.Secret, error)
}

// Source finds the credentials and authorities of Connectors. Make it by NewSource.
type Source struct {
	secrets Secrets
}

// NewSource returns a source that reads those Secrets.
func NewSource(secrets Secrets) *Source { return &Source{secrets: secrets} }

// Credential signs in to a registry. The zero value is none.
type Credential struct {
	// Basic is the user name and password; it may be zero.
	Basic secret.Basic
	// Version tells this credential from an earlier or later one of the same Connector.
	Version string
}

// Credential returns what signs in to the Connector's registry now: nothing
// where the Connector has no `auth`. Every error is a *secret.Problem.
func (s *Source) Credential(ctx context.Context, c *access.Connector) (Credential, error) {
	auth := c.Spec.Auth
	if auth == nil {
		return Credential{}, nil
	}
	name := types.NamespacedName{Namespace: c.Namespace, Name: auth.SecretRef.Name}
	if auth.Name != v1alpha1.AuthBasic {
		return Credential{}, &secret.Problem{
			Secret: name, Reason: v1alpha1.ReasonAuthNotSupported,
			Detail: fmt.Sprintf("the Connector signs in by '%s', which Berth does not know; `auth.name` must be '%s'", auth.Name, v1alpha1.AuthBasic),
		}
	}
	found, err := s.secrets.Get(ctx, name)
	if err != nil {
		return Credential{}, err
	}
	basic, err := secret.ReadBasic(found, corev1.SecretTypeBasicAuth)
	if err != nil {
		return Credential{}, err
	}
	return Credential{Basic: basic, Version: version(found)}, nil
}

// Authorities are the certificates that sign a registry's, beside the public
// ones. The zero value is none.
type Authorities struct {
	// Version tells these authorities from earlier or later ones of the same Connector.
	Version string

	secret *corev1.Secret
}

// PEM returns the certificates, after a look that there are any; nothing for
// the zero value. Every error is a *secret.Problem.
func (a Authorities) PEM() ([]byte, error) {
	if a.secret == nil {
		return nil, nil
	}
	return secret.ReadCACert(a.secret)
}

// Authorities returns those that the Connector names now. They are not looked
// into before PEM is called, so that asking for the version costs next to
// nothing. Every error is a *secret.Problem.
func (s *Source) Authorities(ctx context.Context, c *access.Connector) (Authorities, error) {
	ref := c.Spec.CACertSecretRef
	if ref == nil {
		return Authorities{}, nil
	}
	found, err := s.secrets.Get(ctx, types.NamespacedName{Namespace: c.Namespace, Name: ref.Name})
	if err != nil {
		return Authorities{}, err
	}
	return Authorities{Version: version(found), secret: found}, nil
}

// version changes with the Secret's content, and when another Secret takes its place.
func version(s *corev1.Secret) string { return string(s.UID) + "/" + s.ResourceVersion }
