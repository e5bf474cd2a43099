// Package credential says what authorises Berth towards a Connector's registry:
// what goes with a request, and the certificates that the registry is verified by.
//
// Both come from the Secrets that the Connector names, each time as they are
// now. What is read stays in values that do not print (secret.Basic,
// bearer.Token), and what cannot be read is a *secret.Problem, which says what
// to do and holds none of the data.
//
// What goes with a request is an Authorization. Some registries want the
// credential itself, with each request. Others have a token service, and there
// the credential is exchanged, since hashing a password costs a registry
// milliseconds where looking at a token costs it none (package bearer). Which
// kind a registry is, its answer to a request for `/v2/` without any credential
// says. All that is known of a registry is known under one version of the
// credential's Secret (session): a new version starts from nothing, tokens too.
//
//   - One exchange at a time for one scope, whoever waits for it. One who leaves
//     takes nothing away from the others.
//   - A token in use is renewed before it expires, while requests go on with it.
//   - A credential that was not yet accepted is tried by one exchange at a time,
//     and one that was refused not again before 1 s, 2 s, … 5 min have passed
//     (standing): a wrong password must not lock the account. Where there is no
//     token service, whether it is the credential that a registry refuses, and
//     whether it still does, is asked in the same way, by a request for `/v2/`.
//   - A registry may know of a new password a moment before its Secret does. So
//     those who come upon a refused credential wait for another version of its
//     Secret for a second, not for each request but for each refusal (Source.newer).
package credential

import (
	"context"
	"fmt"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/secret"
)

// mostSessions bounds the Connectors of which something is known at one time: 10,000 and some.
const mostSessions = 16384

// Secrets holds the Secrets that Connectors name. *secret.Follower is one.
type Secrets interface {
	// Get returns a Secret as it was last seen; its errors are *secret.Problem.
	Get(ctx context.Context, name types.NamespacedName) (*corev1.Secret, error)
}

// Source finds what authorises towards the registries of Connectors, and what
// these are verified by. Make it by NewSource. Safe for concurrent use.
type Source struct {
	secrets Secrets

	mu       sync.Mutex // held while a session is made
	sessions *lru.Cache[types.UID, *session]
}

// NewSource returns a source that reads those Secrets.
func NewSource(secrets Secrets) *Source {
	sessions, _ := lru.New[types.UID, *session](mostSessions) // fails only for a size below 1
	return &Source{secrets: secrets, sessions: sessions}
}

// Forget drops what is known of the registry of a Connector that was deleted.
func (s *Source) Forget(uid types.UID) { s.sessions.Remove(uid) }

// Version tells a Secret from what stood in its place earlier or stands there
// later. The zero value is that of no Secret.
type Version struct {
	uid      types.UID
	resource string
}

func versionOf(s *corev1.Secret) Version {
	if s == nil {
		return Version{}
	}
	return Version{uid: s.UID, resource: s.ResourceVersion}
}

// credential returns the Secret that signs in to the Connector's registry, nil where the Connector has no `auth`.
func (s *Source) credential(ctx context.Context, c *access.Connector) (*corev1.Secret, error) {
	auth := c.Spec.Auth
	if auth == nil {
		return nil, nil //nolint:nilnil // no Secret is named, and none is missing
	}
	name := types.NamespacedName{Namespace: c.Namespace, Name: auth.SecretRef.Name}
	if auth.Name != v1alpha1.AuthBasic {
		return nil, &secret.Problem{
			Secret: name, Reason: v1alpha1.ReasonAuthNotSupported,
			Detail: fmt.Sprintf("the Connector signs in by '%s', which Berth does not know; `auth.name` must be '%s'", auth.Name, v1alpha1.AuthBasic),
		}
	}
	return s.secrets.Get(ctx, name)
}

// session returns what is known of the Connector's registry under its credential of now. Every error is a *secret.Problem.
func (s *Source) session(ctx context.Context, c *access.Connector) (*session, error) {
	found, err := s.credential(ctx, c)
	if err != nil {
		return nil, err
	}
	version := versionOf(found)
	if known, ok := s.sessions.Get(c.UID); ok && known.version == version {
		return known, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.sessions.Get(c.UID); ok && known.version == version {
		return known, nil
	}
	var basic secret.Basic
	if found != nil {
		if basic, err = secret.ReadBasic(found, corev1.SecretTypeBasicAuth); err != nil {
			return nil, err
		}
	}
	made := newSession(version, basic)
	s.sessions.Add(c.UID, made)
	return made, nil
}

// Authorities are the certificates that sign a registry's, beside the public
// ones. The zero value is none.
type Authorities struct {
	// Version tells these authorities from earlier or later ones of the same Connector.
	Version Version

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
	return Authorities{Version: versionOf(found), secret: found}, nil
}
