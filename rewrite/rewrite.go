// Package rewrite is the heart of Berth: it decides, for one Pod, which images
// go through which Connector, what else the Pod is given, and changes the Pod
// accordingly.
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
//   - It only changes images that a Connector serves, and only appends to
//     lists, after the user's own; what the user set is never replaced.
//   - It is idempotent by looking at what is there, not at a marker: an image
//     that already points at a Connector stays, and is checked like the rest.
//   - Every change and everything left alone is in the Report, with a Reason.
//   - It fails, with a Refusal, only where the user contradicts himself: by
//     naming a Connector that does not exist or that the namespace may not use.
//
// Pod is for a Pod that is being created, Update for one that exists: then the
// API server lets images change, and nothing else.
package rewrite

import (
	"encoding/json"
	"maps"
	"slices"

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

// Policy is what the administrator has decided for all Pods: the configuration file.
type Policy = v1alpha1.Configuration

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
// Otherwise the two share what is the same in both: who changes one of them
// takes a DeepCopy first.
func Pod(pod *corev1.Pod, namespace Namespace, connectors Connectors, policy *Policy) (*corev1.Pod, Report, error) {
	var report Report
	if skip, alone := leaveAlone(pod, policy); alone {
		report.skip(skip)
		return pod, report, nil
	}
	choice, err := newChooser(pod, namespace, connectors, policy)
	if err != nil {
		return pod, report, err
	}
	out := writable(pod)
	for _, field := range imageFields(&out.Spec) {
		if err := rewriteField(field, choice, &report); err != nil {
			return pod, Report{}, err
		}
	}
	appendPullSecret(&out.Spec)
	annotateOriginals(out, &report)
	equip(out, &choice.settings, policy, &report)
	return out, report, nil
}

// Update returns a Pod that exists as it is to become, before being as it is
// now. Only images that the request changes are considered, since nothing else
// can change, and only where the Pod lists the pull secret: without it an image
// in connector form could never be pulled. The error is a *Refusal, and the
// input is shared as in Pod.
func Update(before, pod *corev1.Pod, namespace Namespace, connectors Connectors, policy *Policy) (*corev1.Pod, Report, error) {
	var report Report
	if skip, alone := leaveAlone(pod, policy); alone {
		report.skip(skip)
		return pod, report, nil
	}
	out := writable(pod)
	changed := changedFields(&before.Spec, &out.Spec)
	if len(changed) == 0 {
		return pod, report, nil
	}
	choice, err := newChooser(pod, namespace, connectors, policy)
	if err != nil {
		return pod, report, err
	}
	if !listsPullSecret(&before.Spec) {
		for _, field := range changed {
			if choice.wouldPull(field) {
				report.skip(Skip{Field: field.path, Image: *field.image, Reason: ReasonPullSecretMissing})
			}
		}
		return pod, report, nil
	}
	for _, field := range changed {
		if err := rewriteField(field, choice, &report); err != nil {
			return pod, Report{}, err
		}
	}
	return out, report, nil
}

// writable returns a copy of a Pod that shares with it whatever this package
// never changes. Lists that it only appends to are shared too, without the room
// behind them. A copy of everything costs more than all that is decided about it.
func writable(pod *corev1.Pod) *corev1.Pod {
	out := *pod
	out.Annotations = maps.Clone(pod.Annotations)
	spec := &out.Spec
	spec.ImagePullSecrets = slices.Clip(spec.ImagePullSecrets)
	spec.InitContainers = writableContainers(spec.InitContainers)
	spec.Containers = writableContainers(spec.Containers)
	spec.EphemeralContainers = slices.Clone(spec.EphemeralContainers)
	spec.Volumes = writableVolumes(spec.Volumes)
	return &out
}

func writableVolumes(list []corev1.Volume) []corev1.Volume {
	ofImage := func(v corev1.Volume) bool { return v.Image != nil }
	if !slices.ContainsFunc(list, ofImage) {
		return slices.Clip(list)
	}
	list = slices.Clone(list)
	for i := range list {
		if ofImage(list[i]) {
			list[i].Image = new(*list[i].Image)
		}
	}
	return list
}

func writableContainers(list []corev1.Container) []corev1.Container {
	list = slices.Clone(list)
	for i := range list {
		list[i].Env = slices.Clone(list[i].Env)
		list[i].VolumeMounts = slices.Clip(list[i].VolumeMounts)
	}
	return list
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
	report.Changes = append(report.Changes, Change{Field: field.path, From: *field.image, To: result.image, Reason: ReasonRewritten, Connector: result.connector})
	*field.image = result.image
	return nil
}

// appendPullSecret lists the Secret with Berth's token after the user's own.
// Also where no image matched: a later `kubectl set image` may, and the list
// cannot grow any more then.
func appendPullSecret(spec *corev1.PodSpec) {
	if !listsPullSecret(spec) {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: v1alpha1.PullSecret})
	}
}

func listsPullSecret(spec *corev1.PodSpec) bool {
	for _, s := range spec.ImagePullSecrets {
		if s.Name == v1alpha1.PullSecret {
			return true
		}
	}
	return false
}

// annotationsLimit is how many bytes the API server lets an object's annotations have, keys and values together.
const annotationsLimit = 256 << 10

// annotateOriginals notes what the user wrote, where there is room for it. What an earlier pass noted stays.
func annotateOriginals(pod *corev1.Pod, report *Report) {
	if len(report.Changes) == 0 {
		return
	}
	const key = v1alpha1.AnnotationOriginalImages
	var originals map[string]string
	if json.Unmarshal([]byte(pod.Annotations[key]), &originals) != nil || originals == nil {
		originals = map[string]string{} // none yet, or a user's text that is not ours to read, 'null' being one
	}
	for _, c := range report.Changes {
		originals[c.Field] = c.From
	}
	text, err := json.Marshal(originals)
	if err != nil {
		return // strings always marshal
	}
	if !fits(pod.Annotations, key, string(text)) {
		report.skip(Skip{Field: "metadata.annotations[" + key + "]", Reason: ReasonAnnotationsFull})
		return
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[key] = string(text)
}

// fits reports whether annotations have room for a value, in the place of the one that the key has.
func fits(annotations map[string]string, key, value string) bool {
	size := len(key) + len(value)
	for k, v := range annotations {
		if k != key {
			size += len(k) + len(v)
		}
	}
	return size <= annotationsLimit
}
