package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// templatePath returns where a kind keeps its Pod template; a Pod is its own.
func templatePath(gk schema.GroupKind) (path []string, ok bool) {
	switch gk {
	case schema.GroupKind{Kind: "Pod"}:
		return nil, true
	case schema.GroupKind{Kind: "PodTemplate"}:
		return []string{"template"}, true
	case schema.GroupKind{Group: "batch", Kind: "CronJob"}:
		return []string{"spec", "jobTemplate", "spec", "template"}, true
	case schema.GroupKind{Kind: "ReplicationController"},
		schema.GroupKind{Group: "apps", Kind: "Deployment"}, schema.GroupKind{Group: "extensions", Kind: "Deployment"},
		schema.GroupKind{Group: "apps", Kind: "ReplicaSet"}, schema.GroupKind{Group: "extensions", Kind: "ReplicaSet"},
		schema.GroupKind{Group: "apps", Kind: "DaemonSet"}, schema.GroupKind{Group: "extensions", Kind: "DaemonSet"},
		schema.GroupKind{Group: "apps", Kind: "StatefulSet"}, schema.GroupKind{Group: "batch", Kind: "Job"}:
		return []string{"spec", "template"}, true
	default:
		return nil, false
	}
}

// resource is an object of a document: the document's own, or an item of a List.
type resource struct {
	metav1.TypeMeta
	content object
	node    *node  // nil where its place is not known
	prefix  string // of its fields in the document, such as 'items[2].'
	name    string
	// namespace as written; it may be empty.
	namespace string
}

// groupKind of the resource; the version is of no matter.
func (r *resource) groupKind() schema.GroupKind {
	return r.GroupVersionKind().GroupKind()
}

// resources returns the objects of a decoded document, those of Lists one by one.
func (d *document) resources(content any) ([]resource, error) {
	o, ok := content.(object)
	if !ok {
		return nil, d.fail(0, errors.New("must be an object with `apiVersion` and `kind`"))
	}
	root := resource{content: o, node: d.root}
	return d.flatten(root, metav1.TypeMeta{})
}

// flatten returns a resource, or the items of a List. The kind is that of items which do not say theirs.
func (d *document) flatten(r resource, implied metav1.TypeMeta) ([]resource, error) {
	if err := d.identify(&r, implied); err != nil {
		return nil, err
	}
	itemKind, ok := listOf(r.TypeMeta)
	items, isList := r.content["items"].([]any)
	if !ok || !isList {
		return []resource{r}, nil
	}
	var all []resource
	for i, item := range items {
		prefix := fmt.Sprintf("%sitems[%d]", r.prefix, i)
		at := r.node.child("items").item(i)
		content, ok := item.(object)
		if !ok {
			return nil, d.failAt(r.node, fmt.Errorf("`%s` must be an object", prefix))
		}
		inner, err := d.flatten(resource{content: content, node: at, prefix: prefix + "."}, itemKind)
		if err != nil {
			return nil, err
		}
		all = append(all, inner...)
	}
	return all, nil
}

// identify reads what every object says of itself.
func (d *document) identify(r *resource, implied metav1.TypeMeta) error {
	var meta struct {
		metav1.TypeMeta `json:",inline"`

		Metadata struct {
			Name         string `json:"name"`
			GenerateName string `json:"generateName"`
			Namespace    string `json:"namespace"`
		} `json:"metadata"`
	}
	said := object{"apiVersion": r.content["apiVersion"], "kind": r.content["kind"], "metadata": r.content["metadata"]}
	if err := convert(said, &meta); err != nil {
		return d.failAt(mismatched(r.node, err), err)
	}
	r.TypeMeta = meta.TypeMeta
	if r.Kind == "" {
		r.TypeMeta = implied
	}
	r.name, r.namespace = meta.Metadata.Name, meta.Metadata.Namespace
	if r.name == "" {
		r.name = meta.Metadata.GenerateName
	}
	return nil
}

// listOf returns what a list of that kind holds, such as a PodList; items of a plain List say it themselves.
func listOf(list metav1.TypeMeta) (items metav1.TypeMeta, ok bool) {
	kind, ok := strings.CutSuffix(list.Kind, "List")
	if ok && kind == "" {
		return metav1.TypeMeta{}, list.APIVersion == "v1"
	}
	items = metav1.TypeMeta{Kind: kind, APIVersion: list.APIVersion}
	return items, ok && isRead(items.GroupVersionKind().GroupKind())
}

// mismatched is the node of the field that an error is about, or the object itself.
func mismatched(n *node, err error) *node {
	if wrong, ok := errors.AsType[*mismatch](err); ok {
		return n.find(wrong.field)
	}
	return n
}

// failAt places an error at a node.
func (d *document) failAt(n *node, err error) error {
	if n == nil {
		return d.fail(0, err)
	}
	return d.fail(n.start, err)
}

// workload is a resource with a Pod template.
type workload struct {
	resource
	path     []string
	template object
	pod      *corev1.Pod
}

// workload returns the Pod template of a resource. Patches of workloads have
// none, or one without containers: then ok is false.
func (d *document) workload(r *resource) (w workload, ok bool, err error) {
	path, ok := templatePath(r.groupKind())
	if !ok {
		return workload{}, false, nil
	}
	w = workload{resource: *r, path: path, template: r.content}
	at := r.node
	for _, key := range path {
		inner, isObject := asObject(w.template[key])
		if !isObject {
			return workload{}, false, d.failAt(at.child(key), fmt.Errorf("`%s%s` must be an object", r.prefix, strings.Join(path, ".")))
		}
		w.template, at = inner, at.child(key)
	}
	w.pod = &corev1.Pod{}
	if err := convert(object{"metadata": w.template["metadata"], "spec": w.template["spec"]}, w.pod); err != nil {
		return workload{}, false, d.failAt(mismatched(at, err), fmt.Errorf("%s '%s': %w", r.Kind, r.name, err))
	}
	return w, len(w.pod.Spec.Containers)+len(w.pod.Spec.InitContainers) > 0, nil
}

// fieldPrefix stands before the fields of the Pod in messages.
func (w *workload) fieldPrefix() string {
	return w.prefix + strings.Join(append(slices.Clone(w.path), ""), ".")
}

// templateNode is where the Pod template stands, or nil.
func (w *workload) templateNode() *node {
	n := w.node
	for _, key := range w.path {
		n = n.child(key)
	}
	return n
}
