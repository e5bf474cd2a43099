package rewrite

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

// chooser chooses Connectors for the images of one Pod.
type chooser struct {
	settings

	namespace  Namespace
	connectors Connectors
	policy     *Policy
	given      []*access.Connector // named by annotation, in its order
	open       []string            // without an annotation: the namespaces whose Connectors are given
}

func newChooser(pod *corev1.Pod, namespace Namespace, connectors Connectors, policy *Policy) (*chooser, error) {
	c := &chooser{settings: newSettings(pod, namespace, policy), namespace: namespace, connectors: connectors, policy: policy}
	if !c.named {
		c.open = openNamespaces(namespace.Name, policy.TrustedNamespaces)
		return c, nil
	}
	for _, name := range c.settings.connectors {
		connector, err := c.byAnnotation(name)
		if err != nil {
			return nil, inField(err, "metadata.annotations["+v1alpha1.AnnotationConnector+"]")
		}
		c.given = append(c.given, connector)
	}
	return c, nil
}

func (c *chooser) byAnnotation(text string) (*access.Connector, error) {
	name, err := route.ParseName(text, c.namespace.Name)
	if err != nil {
		return nil, &Refusal{Reason: ReasonConnectorInvalid, Detail: fmt.Sprintf(
			"'%s' does not name a Connector; write 'NAMESPACE/NAME', or 'NAME' for one of this namespace, separated by commas", text)}
	}
	return c.usable(name)
}

// usable returns a Connector that the user has named himself.
func (c *chooser) usable(name route.Connector) (*access.Connector, error) {
	connector, ok := c.connectors.Get(name)
	if !ok {
		return nil, &Refusal{Reason: ReasonConnectorNotFound, Detail: fmt.Sprintf(
			"Connector '%s' does not exist; correct the name, or create it in namespace '%s'", name, name.Namespace)}
	}
	if !connector.Visible(c.namespace.caller()) {
		return nil, &Refusal{Reason: ReasonConnectorForbidden, Detail: fmt.Sprintf(
			"Connector '%s' does not grant access to namespace '%s'; ask its owner to list this namespace in the Connector's `spec.access`",
			name, c.namespace.Name)}
	}
	return connector, nil
}

// candidate is a Connector that may pull the repository.
type candidate struct {
	*access.Connector
	repository string
	rank       int // 0 for the Pod's own namespace and 1 for trusted ones, or its place in the annotation
	specific   int // length of the pattern that grants
}

// choose returns the Connector for a repository of a registry, and the
// repository as that Connector names it. Without one it returns the reason.
func (c *chooser) choose(domain, path string) (best candidate, reason Reason) {
	reason = ReasonNoConnector
	for rank, connector := range c.candidates(domain) {
		repository, ok := below(connector, path)
		if !ok || !serves(connector, domain) {
			continue
		}
		specific, err := connector.Match(c.namespace.caller(), repository, v1alpha1.ActionPull)
		if err != nil {
			if !errors.Is(err, access.ErrNamespace) {
				reason = ReasonNotGranted
			}
			continue
		}
		next := candidate{connector, repository, rank, specific}
		if best.Connector == nil || c.better(next, best) {
			best = next
		}
	}
	if best.Connector != nil {
		reason = ReasonRewritten
	}
	return best, reason
}

// candidates yields, with their rank, the Connectors that this Pod may be given for a registry.
func (c *chooser) candidates(domain string) iter.Seq2[int, *access.Connector] {
	if c.named {
		return slices.All(c.given)
	}
	return func(yield func(int, *access.Connector) bool) {
		for _, registry := range spellings(domain) {
			list := c.connectors.ByRegistry(registry)
			for i, namespace := range c.open {
				for _, connector := range of(list, namespace) {
					if !yield(min(i, 1), connector) {
						return
					}
				}
			}
		}
	}
}

// openNamespaces are those whose Connectors are given without being named: the
// Pod's own, which comes first, and the trusted ones, none of which does.
func openNamespaces(own string, trusted []string) []string {
	list := append(make([]string, 0, 1+len(trusted)), own)
	for _, name := range trusted {
		if name != own {
			list = append(list, name)
		}
	}
	return list
}

// of returns a namespace's part of a list that is sorted by namespace: a
// company's one registry may have a Connector for each of its teams.
func of(list []*access.Connector, namespace string) []*access.Connector {
	start, _ := slices.BinarySearchFunc(list, namespace, byNamespace)
	n, _ := slices.BinarySearchFunc(list[start:], namespace+"\x00", byNamespace) // the next name that can be
	return list[start : start+n]
}

func byNamespace(connector *access.Connector, namespace string) int {
	return cmp.Compare(connector.Namespace, namespace)
}

// better reports whether a comes before b: by rank, then by what grants more
// specifically, then by address path, then by name.
func (c *chooser) better(a, b candidate) bool {
	if c.named {
		return a.rank < b.rank
	}
	return cmp.Or(
		cmp.Compare(a.rank, b.rank),
		cmp.Compare(b.specific, a.specific),
		cmp.Compare(len(b.Address.Path), len(a.Address.Path)),
		cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name),
	) < 0
}

// below returns the repository that a path names under the Connector's address.
func below(connector *access.Connector, path string) (string, bool) {
	prefix := strings.TrimPrefix(connector.Address.Path, "/")
	if prefix == "" {
		return path, true
	}
	return strings.CutPrefix(path, prefix+"/")
}
