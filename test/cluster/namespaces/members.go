package namespaces

import (
	"fmt"
	"os"
	"slices"
	"strconv"
)

// Set is the names of namespaces, such as net:[4026532281], by their kind.
type Set map[string]string

// kinds are the namespaces that the node has of its own, in the order in
// which they must be joined: /proc/PID/ns is out of reach after mnt.
func kinds() []string { return []string{"ipc", "uts", "net", "pid", "mnt"} }

// Of is the set of a process's namespaces.
func Of(pid int) (Set, error) {
	set := Set{}
	for _, kind := range kinds() {
		name, err := os.Readlink(procPath(pid, "ns", kind))
		if err != nil {
			return nil, fmt.Errorf("reading the namespaces of process %d: %w", pid, err)
		}
		set[kind] = name
	}
	return set, nil
}

// Members are the processes that live in any namespace of the set, and how
// many processes were looked at.
func (s Set) Members() (members []int, seen int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, 0, fmt.Errorf("listing processes: %w", err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		seen++
		if s.holds(pid) {
			members = append(members, pid)
		}
	}
	slices.Sort(members)
	return members, seen, nil
}

func (s Set) holds(pid int) bool {
	for kind, name := range s {
		if its, err := os.Readlink(procPath(pid, "ns", kind)); err == nil && its == name {
			return true
		}
	}
	return false
}
