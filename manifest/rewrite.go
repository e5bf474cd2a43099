package manifest

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/rewrite"
)

// concerns reports whether a document is of a kind that this package reads. All
// others pass, whatever stands in them.
func (d *document) concerns() bool {
	if d.root == nil {
		return false
	}
	root := d.root.resolved()
	if root == nil || root.shape != mapping || root.merges() {
		return true
	}
	kind := metav1.TypeMeta{APIVersion: root.text("apiVersion"), Kind: root.text("kind")}
	_, isList := listOf(kind)
	return isList || isRead(kind.GroupVersionKind().GroupKind())
}

// isRead reports whether objects of that kind mean something to this package.
func isRead(gk schema.GroupKind) bool {
	_, hasTemplate := templatePath(gk)
	return hasTemplate || gk == namespaceKind() || gk == connectorKind()
}

func namespaceKind() schema.GroupKind { return schema.GroupKind{Kind: "Namespace"} }

func connectorKind() schema.GroupKind {
	return schema.GroupKind{Group: v1alpha1.Group, Kind: "Connector"}
}

// understood decodes a document, and refuses one that says two things at once.
func (d *document) understood() (any, error) {
	if d.root != nil {
		if at, err := d.root.ambiguous(); err != nil {
			return nil, d.failAt(at, err)
		}
	}
	return d.decode()
}

// Rewrite runs the core over the stream's workloads and returns the new stream.
// A workload that is refused stays as it is, and has an entry that says so. The
// error is an *InputError. The stream itself is not changed.
func (s *Stream) Rewrite(around *Surroundings, policy *rewrite.Policy) (*Stream, Report, error) {
	out := &Stream{name: s.name}
	var report Report
	for _, p := range s.parts {
		if p.document != nil && p.document.concerns() {
			d, entries, err := p.document.rewritten(around, policy)
			if err != nil {
				return nil, nil, s.locate(err)
			}
			p = part{text: d.text, document: d}
			report = append(report, entries...)
		}
		out.parts = append(out.parts, p)
	}
	for i := range report {
		report[i].File = s.name
	}
	return out, report, nil
}

// rewritten returns the document after the core ran over its workloads.
func (d *document) rewritten(around *Surroundings, policy *rewrite.Policy) (*document, Report, error) {
	have, err := d.understood()
	if err != nil {
		return nil, nil, err
	}
	want := runtime.DeepCopyJSONValue(have)
	all, err := d.resources(want)
	if err != nil {
		return nil, nil, err
	}
	var report Report
	for i := range all {
		entries, err := d.rewriteResource(&all[i], around, policy)
		if err != nil {
			return nil, nil, err
		}
		report = append(report, entries...)
	}
	if equal(have, want) {
		return d, report, nil
	}
	edited, reencoded, err := d.edited(have, want)
	if reencoded {
		report = append(report, d.entry(reencodedEntry()))
	}
	return edited, report, err
}

// rewriteResource changes the content of a resource, if it has a Pod template.
func (d *document) rewriteResource(r *resource, around *Surroundings, policy *rewrite.Policy) (Report, error) {
	w, ok, err := d.workload(r)
	if err != nil || w.pod == nil {
		return nil, err
	}
	namespace, optedIn := around.namespace(r.namespace)
	teller := teller{d, &w, namespace.Name}
	switch {
	case !ok:
		return teller.whole(ReasonNoPodTemplate), nil
	case !optedIn:
		return teller.whole(ReasonNamespaceNotOptedIn), nil
	}
	after, told, err := rewrite.Pod(w.pod, namespace, &around.catalogue, policy)
	if refusal, ok := errors.AsType[*rewrite.Refusal](err); ok {
		return teller.refused(refusal), nil
	}
	if err != nil {
		return nil, d.failAt(w.templateNode(), err)
	}
	return teller.report(told), d.carryOver(&w, after)
}

// carryOver brings what the core changed into the decoded document, and checks
// that the typed Pod that comes out of it is the core's.
func (d *document) carryOver(w *workload, after *corev1.Pod) error {
	before, errBefore := untyped(w.pod)
	wanted, errAfter := untyped(after)
	if err := errors.Join(errBefore, errAfter); err != nil {
		return d.failAt(w.templateNode(), err)
	}
	carry(w.template, before, wanted)
	var got corev1.Pod
	if err := convert(object{"metadata": w.template["metadata"], "spec": w.template["spec"]}, &got); err != nil {
		return d.failAt(w.templateNode(), err)
	}
	if !apiequality.Semantic.DeepEqual(got.Spec, after.Spec) || !apiequality.Semantic.DeepEqual(got.ObjectMeta, after.ObjectMeta) {
		return d.failAt(w.templateNode(), fmt.Errorf("%s '%s': the rewritten Pod cannot be written back; please report this", w.Kind, w.name))
	}
	return nil
}
