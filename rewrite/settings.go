package rewrite

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api/v1alpha1"
)

// settings are what a Pod's annotations, or else its Namespace's, ask for.
type settings struct {
	// connectors are those that are named, in order, without the spaces around them; named says whether there is a list.
	connectors []string
	named      bool
	// keep leaves every image as it is.
	keep bool
	// proxy gives the containers the forward proxy; always where it was asked for by name.
	proxy, always bool
	// configurations to mount, sorted; none: not asked for.
	configurations []string
	// invalid are annotations whose values are not known.
	invalid []Skip
}

func newSettings(pod *corev1.Pod, namespace Namespace, policy *Policy) settings {
	var s settings
	connectors, named := annotation(pod, namespace, v1alpha1.AnnotationConnector)
	s.connectors, s.named = entries(connectors), named
	s.keep = s.choice(pod, namespace, v1alpha1.AnnotationImages, v1alpha1.ImagesRewrite, v1alpha1.ImagesKeep) == v1alpha1.ImagesKeep
	switch s.choice(pod, namespace, v1alpha1.AnnotationProxy, v1alpha1.ProxyPipelines, v1alpha1.ProxyAlways, v1alpha1.ProxyNever) {
	case v1alpha1.ProxyAlways:
		s.proxy, s.always = true, true
	case v1alpha1.ProxyPipelines:
		s.proxy = ofPipeline(pod, policy)
	}
	list, _ := annotation(pod, namespace, v1alpha1.AnnotationConfigurations)
	s.configurations = slices.DeleteFunc(entries(list), func(name string) bool { return name == "" })
	slices.Sort(s.configurations)
	s.configurations = slices.Compact(s.configurations)
	return s
}

// entries are those of a list with commas, without the white space around them.
func entries(list string) []string {
	all := strings.Split(list, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// choice returns the annotation's value if it is one of those known, and else
// the first of them, which is the default.
func (s *settings) choice(pod *corev1.Pod, namespace Namespace, key string, known ...string) string {
	value, ok := annotation(pod, namespace, key)
	if !ok {
		return known[0]
	}
	if slices.Contains(known, value) {
		return value
	}
	s.invalid = append(s.invalid, Skip{
		Field: "metadata.annotations[" + key + "]", Reason: ReasonAnnotationInvalid,
		Detail: "'" + value + "' must be '" + strings.Join(known, "' or '") + "'; '" + known[0] + "' is assumed",
	})
	return known[0]
}

// notConfigured are the annotations that ask for what the policy has not.
func (s *settings) notConfigured(policy *Policy) (skips []Skip) {
	for _, wish := range []struct {
		asked     bool
		key, need string
	}{
		{s.always && policy.Proxy.Address == "", v1alpha1.AnnotationProxy, "`proxy.address`"},
		{len(s.configurations) > 0 && !policy.Files.Enabled, v1alpha1.AnnotationConfigurations, "`files.enabled`"},
	} {
		if wish.asked {
			skips = append(skips, Skip{
				Field: "metadata.annotations[" + wish.key + "]", Reason: ReasonNotConfigured,
				Detail: "ask the administrator to set " + wish.need,
			})
		}
	}
	return skips
}

// annotation returns the Pod's, or else its Namespace's.
func annotation(pod *corev1.Pod, namespace Namespace, key string) (string, bool) {
	if value, ok := pod.Annotations[key]; ok {
		return value, true
	}
	value, ok := namespace.Annotations[key]
	return value, ok
}

func ofPipeline(pod *corev1.Pod, policy *Policy) bool {
	return slices.ContainsFunc(policy.Pipelines, func(p v1alpha1.Pipeline) bool {
		return len(p.Labels) > 0 && carries(pod.Labels, p.Labels)
	})
}
