package webhook

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/rewrite"
)

const (
	// mostWarnings and longestWarning keep within what the API server passes on for all webhooks together.
	mostWarnings   = 10
	longestWarning = 256
)

// warnings are what kubectl prints to the user who created the Pod.
func warnings(report rewrite.Report) []string {
	var list []string
	more := 0
	for _, skip := range report.Skips {
		switch {
		case !skip.Reason.Warns():
		case len(list) == mostWarnings:
			more++
		default:
			list = append(list, cut(skip.String()))
		}
	}
	if more > 0 {
		list = append(list, fmt.Sprintf("Berth left %d more images alone", more))
	}
	return list
}

// audit says in the API server's audit log how often each reason was given.
func audit(report rewrite.Report) string {
	counts := map[rewrite.Reason]int{}
	for _, c := range report.Changes {
		counts[c.Reason]++
	}
	for _, s := range report.Skips {
		counts[s.Reason]++
	}
	parts := make([]string, 0, len(counts))
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s=%d", reason, counts[reason]))
	}
	return strings.Join(parts, ",")
}

// auditKey tells a Pod that lists the pull secret already. Where another
// webhook has Berth called again, the API server keeps what was said first under a key.
func auditKey(before *corev1.Pod) string {
	for _, s := range before.Spec.ImagePullSecrets {
		if s.Name == v1alpha1.PullSecret {
			return "report-again"
		}
	}
	return "report"
}

// cut shortens a text to longestWarning bytes, between runes.
func cut(s string) string {
	const ellipsis = "…"
	if len(s) <= longestWarning {
		return s
	}
	end := 0
	for at := range s {
		if at > longestWarning-len(ellipsis) {
			break
		}
		end = at
	}
	return s[:end] + ellipsis
}
