package rewrite

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api/v1alpha1"
)

// leaveAlone reports whether nothing of the Pod may be touched, and why.
func leaveAlone(pod *corev1.Pod, policy *Policy) (Skip, bool) {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return Skip{Reason: ReasonMirrorPod}, true
	}
	if pod.Labels[v1alpha1.LabelInject] == v1alpha1.InjectDisabled {
		return Skip{Reason: ReasonOptedOut}, true
	}
	if windows(pod) {
		return Skip{Reason: ReasonWindows}, true
	}
	for _, class := range policy.LeftAlone {
		if asksFor(pod, class) {
			return Skip{Reason: ReasonNodeClass, Detail: "'" + class.Name + "'"}, true
		}
	}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil &&
		pod.Labels[v1alpha1.LabelInject] != v1alpha1.InjectEnabled && !safe(owner, policy.SafeOwners) {
		return Skip{Reason: ReasonOwner, Detail: owner.Kind + " '" + owner.Name + "'; label the Pod " +
			v1alpha1.LabelInject + "=" + v1alpha1.InjectEnabled + " if its controller tolerates changes"}, true
	}
	return Skip{}, false
}

func windows(pod *corev1.Pod) bool {
	return pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows ||
		pod.Spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows)
}

func asksFor(pod *corev1.Pod, class v1alpha1.NodeClass) bool {
	return len(class.NodeSelector)+len(class.Labels) > 0 &&
		carries(pod.Spec.NodeSelector, class.NodeSelector) && carries(pod.Labels, class.Labels)
}

func safe(owner *metav1.OwnerReference, kinds []v1alpha1.OwnerKind) bool {
	group, _, versioned := strings.Cut(owner.APIVersion, "/")
	if !versioned {
		group = ""
	}
	for _, k := range kinds {
		if k.Group == group && k.Kind == owner.Kind {
			return true
		}
	}
	return false
}

// carries reports whether have holds every entry of want; an empty value stands for any.
func carries(have, want map[string]string) bool {
	for key, value := range want {
		got, ok := have[key]
		if !ok || value != "" && got != value {
			return false
		}
	}
	return true
}
