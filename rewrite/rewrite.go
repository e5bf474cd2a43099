// Package rewrite is the heart of Berth: it decides, for one Pod, which images
// go through which Connector, and changes the Pod accordingly.
//
//	harbor.example.com/test/abc:v1
//	→ c-harbor.demo.svc.cluster.local/namespaces/demo/connectors/harbor/test/abc:v1
//
// It is a pure function of the Pod, its Namespace, the Connectors and a Policy:
// no I/O, no clock, no state, and its input is left as it was. So the webhook
// and the command line give the same answer, and the same Pod gives the same
// answer today and in the post-mortem; in particular no decision depends on
// whether a registry is healthy at the moment.
//
// Its rules:
//
//   - It only changes images that a Connector serves, and only appends to lists.
//   - It is idempotent by looking at what is there, not at a marker: an image
//     that already points at a Connector stays, and is checked like the rest.
//   - Every change and everything left alone is in the Report, with a Reason.
//   - It fails, with a Refusal, only where the user contradicts himself: by
//     naming a Connector that does not exist or that the namespace may not use.
package rewrite

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

// Connectors are those that exist; *access.Catalogue is one. Which of them a
// Pod may be given, this package decides.
type Connectors interface {
	Get(name route.Connector) (*access.Connector, bool)
	ByRegistry(registry string) []*access.Connector
}

// Policy is what the administrator has decided for all Pods.
type Policy struct {
	// ClusterDomain is the DNS suffix of Services.
	ClusterDomain string
	// Trusted are the namespaces whose Connectors every Pod may be given without naming them.
	Trusted []string
}

// Namespace is what counts of a Pod's Namespace.
type Namespace struct {
	Name                string
	Labels, Annotations map[string]string
}

func (n Namespace) caller() access.Caller {
	return access.Caller{Namespace: n.Name, Labels: n.Labels}
}

// Pod returns the Pod as it is to be created. The error is a *Refusal; the
// input is never changed, and it is returned as it is where nothing changes.
func Pod(pod *corev1.Pod, namespace Namespace, connectors Connectors, policy Policy) (*corev1.Pod, Report, error) {
	var report Report
	if reason, alone := leaveAlone(pod); alone {
		report.skip(Skip{Reason: reason})
		return pod, report, nil
	}
	choice, err := newChooser(pod, namespace, connectors, policy)
	if err != nil {
		return pod, report, err
	}
	out := pod.DeepCopy()
	for field := range imageFields(&out.Spec) {
		if err := rewriteField(field, choice, &report); err != nil {
			return pod, Report{}, err
		}
	}
	appendPullSecret(&out.Spec)
	annotateOriginals(out, report.Changes)
	return out, report, nil
}

func rewriteField(field imageField, choice *chooser, report *Report) error {
	if field.never {
		report.skip(Skip{Field: field.path, Image: *field.image, Reason: ReasonPullPolicyNever})
		return nil
	}
	result, err := choice.image(*field.image)
	if err != nil {
		return inField(err, field.path)
	}
	if result.reason != ReasonRewritten {
		report.skip(Skip{Field: field.path, Image: *field.image, Reason: result.reason, Detail: result.detail})
		return nil
	}
	report.Changes = append(report.Changes, Change{Field: field.path, From: *field.image, To: result.image, Connector: result.connector})
	*field.image = result.image
	return nil
}

// leaveAlone reports whether nothing of the Pod may be touched.
func leaveAlone(pod *corev1.Pod) (Reason, bool) {
	switch {
	case pod.Annotations[corev1.MirrorPodAnnotationKey] != "":
		return ReasonMirrorPod, true
	case pod.Labels[v1alpha1.LabelInject] == v1alpha1.InjectDisabled:
		return ReasonOptedOut, true
	case pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows:
		return ReasonWindows, true
	default:
		return "", false
	}
}

// appendPullSecret lists the Secret with Berth's token after the user's own.
// Also where no image matched: a later `kubectl set image` may, and the list
// cannot grow any more then.
func appendPullSecret(spec *corev1.PodSpec) {
	for _, s := range spec.ImagePullSecrets {
		if s.Name == v1alpha1.PullSecret {
			return
		}
	}
	spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: v1alpha1.PullSecret})
}

// annotateOriginals notes what the user wrote. What an earlier pass noted stays.
func annotateOriginals(pod *corev1.Pod, changes []Change) {
	if len(changes) == 0 {
		return
	}
	originals := map[string]string{}
	if before, ok := pod.Annotations[v1alpha1.AnnotationOriginalImages]; ok && json.Unmarshal([]byte(before), &originals) != nil {
		originals = map[string]string{} // a user's text that is not ours to read
	}
	for _, c := range changes {
		originals[c.Field] = c.From
	}
	text, err := json.Marshal(originals)
	if err != nil {
		return // strings always marshal
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[v1alpha1.AnnotationOriginalImages] = string(text)
}
