package webhook

import (
	"fmt"

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
