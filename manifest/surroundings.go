package manifest

import (
	"errors"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/rewrite"
)

// Surroundings are what the core asks about besides the Pod: Connectors and
// Namespaces. What is added later takes the place of a namesake.
type Surroundings struct {
	defaultNamespace string
	catalogue        access.Catalogue
	namespaces       map[string]rewrite.Namespace
}

// NewSurroundings returns empty ones. Objects that do not name their namespace are in the given one.
func NewSurroundings(defaultNamespace string) *Surroundings {
	return &Surroundings{defaultNamespace: defaultNamespace, namespaces: map[string]rewrite.Namespace{}}
}

// AddConnector adds a Connector. It fails where the API server would not have admitted it.
func (s *Surroundings) AddConnector(c *v1alpha1.Connector) error {
	if c.Namespace == "" {
		c.Namespace = s.defaultNamespace
	}
	if c.Name == "" {
		return errors.New("a Connector must have a `metadata.name`")
	}
	compiled, err := access.New(c)
	if err != nil {
		return err
	}
	s.catalogue.Put(compiled)
	return nil
}

// AddNamespace adds a Namespace.
func (s *Surroundings) AddNamespace(n *corev1.Namespace) {
	labels := map[string]string{corev1.LabelMetadataName: n.Name}
	for k, v := range n.Labels {
		if k != corev1.LabelMetadataName {
			labels[k] = v
		}
	}
	s.namespaces[n.Name] = rewrite.Namespace{Name: n.Name, Labels: labels, Annotations: n.Annotations}
}

// AddStream adds the Connectors and Namespaces of a stream. The error is an *InputError.
func (s *Surroundings) AddStream(stream *Stream) error {
	return stream.each(func(d *document, r *resource) error {
		var err error
		switch r.groupKind() {
		case connectorKind():
			var c v1alpha1.Connector
			if err = convert(r.content, &c); err == nil {
				err = s.AddConnector(&c)
			}
		case namespaceKind():
			var n corev1.Namespace
			if err = convert(r.content, &n); err == nil {
				s.AddNamespace(&n)
			}
		}
		if err != nil {
			return d.failAt(mismatched(r.node, err), err)
		}
		return nil
	})
}

// namespace returns the Namespace of a workload. One that nothing describes is
// taken as opted in: somebody who asks for a rewrite means it.
func (s *Surroundings) namespace(written string) (namespace rewrite.Namespace, optedIn bool) {
	if written == "" {
		written = s.defaultNamespace
	}
	described, ok := s.namespaces[written]
	if !ok {
		labels := map[string]string{corev1.LabelMetadataName: written}
		return rewrite.Namespace{Name: written, Labels: labels}, true
	}
	return described, described.Labels[v1alpha1.LabelInject] == v1alpha1.InjectEnabled
}

// Namespaces returns the names of the namespaces of a stream's workloads, so
// that the caller can look them up.
func (s *Surroundings) Namespaces(stream *Stream) (map[string]bool, error) {
	names := map[string]bool{}
	err := stream.each(func(_ *document, r *resource) error {
		if _, ok := templatePath(r.groupKind()); ok {
			namespace, _ := s.namespace(r.namespace)
			names[namespace.Name] = true
		}
		return nil
	})
	return names, err
}

// each calls f with every object of the stream. The error is an *InputError.
func (s *Stream) each(f func(*document, *resource) error) error {
	for _, p := range s.parts {
		if p.document == nil || !p.document.concerns() {
			continue
		}
		err := p.document.each(f)
		if err != nil {
			return s.locate(err)
		}
	}
	return nil
}

func (d *document) each(f func(*document, *resource) error) error {
	content, err := d.understood()
	if err != nil {
		return err
	}
	all, err := d.resources(content)
	if err != nil {
		return err
	}
	for i := range all {
		if err := f(d, &all[i]); err != nil {
			return err
		}
	}
	return nil
}
