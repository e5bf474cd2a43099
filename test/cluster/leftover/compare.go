package leftover

import (
	"fmt"
	"slices"
	"strings"
)

// Compare tells what is there after and was not before, and what is no longer
// as it was. It is empty if the machine is as it was.
func Compare(before, after Snapshot) []string {
	var found []string
	found = append(found, added("mount", before.Mounts, after.Mounts)...)
	found = append(found, added("network interface", before.Links, after.Links)...)
	found = append(found, added("network namespace", before.Netns, after.Netns)...)
	found = append(found, added("nftables rule", before.Rules, after.Rules)...)
	return append(found, changed(before.Sysctls, after.Sysctls)...)
}

// added lists what after has more often than before.
func added(kind string, before, after []string) []string {
	left := map[string]int{}
	for _, one := range before {
		left[one]++
	}
	var found []string
	for _, one := range after {
		left[one]--
		if left[one] < 0 {
			found = append(found, fmt.Sprintf("%s '%s'", kind, strings.TrimSpace(one)))
		}
	}
	return found
}

// changed lists settings with another value than before. Those of an interface
// appear and vanish with it, so only names that both know are compared.
func changed(before, after map[string]string) []string {
	var found []string
	for name, was := range before {
		if is, known := after[name]; known && is != was {
			found = append(found, fmt.Sprintf("sysctl '%s' is '%s' and was '%s'", name, is, was))
		}
	}
	slices.Sort(found)
	return found
}
