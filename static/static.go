// Package static knows Connectors and all that belongs to them from a directory
// of manifests, where there is no Kubernetes: on a virtual machine, on a
// developer's, or to measure.
//
// The manifests are those of a cluster, in YAML or JSON, any number in a file:
//
//	Connector, ConnectorClass   as ever; each Connector must be one that the API server would admit
//	Secret                      the credentials and authorities that Connectors name, by `data` or `stringData`
//	Namespace                   the labels that access rules select by. One that no manifest describes
//	                            exists too: its UID is its name, and its only label is kubernetes.io/metadata.name
//	ConfigMap                   'berth-token-keys' of 'berth-system', with the public keys that verify tokens
//
// Any other kind is an error, as is a field that its kind does not have: what
// is misspelt is told, and not passed over.
//
// A directory is read as a whole (Read), into a State that does not change. A
// Directory looks again several times a second, and takes over what changed; a
// directory that is wrong changes nothing. The errors say where the mistake is,
// by file, line and document, and hold no value of any Secret.
package static

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
	"berth.dev/berth/secret"
	"berth.dev/berth/token"
)

// State is what a directory says. It does not change.
type State struct {
	// Connectors by name. The UID of each stands for its address too: one that moves to another address is another
	// Connector, which inherits no connection and no token.
	Connectors map[route.Connector]*access.Connector
	// Classes are the specs of the ConnectorClasses, by name.
	Classes map[string]*v1alpha1.ConnectorClassSpec
	classes []*access.Class
	// Keys verify tokens.
	Keys *token.PublicKeys

	secrets    map[types.NamespacedName]*corev1.Secret
	namespaces map[string]*corev1.Namespace
}

// Get returns a Secret, or a *secret.Problem. Its ResourceVersion changes with its content.
func (s *State) Get(_ context.Context, name types.NamespacedName) (*corev1.Secret, error) {
	if found, ok := s.secrets[name]; ok {
		return found, nil
	}
	return nil, &secret.Problem{
		Secret: name, Reason: v1alpha1.ReasonSecretNotFound,
		Detail: fmt.Sprintf("no manifest in the directory describes it; write one with `namespace: %s`", name.Namespace),
	}
}

// Namespace returns the UID and the labels of a namespace. There is one of every name.
func (s *State) Namespace(name string) (uid string, labels map[string]string) {
	if n, ok := s.namespaces[name]; ok {
		return string(n.UID), n.Labels
	}
	return name, map[string]string{corev1.LabelMetadataName: name}
}

// succeed gives each Secret the version that it has in the state before, or the next one where it changed.
func (s *State) succeed(before *State, generation uint64) {
	for name, now := range s.secrets {
		now.ResourceVersion = strconv.FormatUint(generation, 10)
		if before == nil {
			continue
		}
		if then, ok := before.secrets[name]; ok && then.Type == now.Type && maps.EqualFunc(then.Data, now.Data, equalBytes) {
			now.ResourceVersion = then.ResourceVersion
		}
	}
}

func equalBytes(a, b []byte) bool { return string(a) == string(b) }
