// Package cgroup makes and removes the cluster's own directory in each cgroup
// hierarchy of the machine, version 1 or 2.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Hierarchy is one mounted tree of cgroups.
type Hierarchy struct {
	Path    string // where it is mounted
	Unified bool   // version 2
	CPUSet  bool   // version 1 with the cpuset controller
}

// Hierarchies reads them from the content of /proc/self/mountinfo.
func Hierarchies(mountinfo string) []Hierarchy {
	var found []Hierarchy
	for line := range strings.Lines(mountinfo) {
		mount, source, _ := strings.Cut(line, " - ")
		fields, kind := strings.Fields(mount), strings.Fields(source)
		if len(fields) < 5 || len(kind) < 3 || !strings.HasPrefix(kind[0], "cgroup") {
			continue
		}
		found = append(found, Hierarchy{
			Path: fields[4], Unified: kind[0] == "cgroup2",
			CPUSet: kind[0] == "cgroup" && slices.Contains(strings.Split(kind[2], ","), "cpuset"),
		})
	}
	return found
}

// Create makes the directory in every hierarchy where containers need one:
// in all of version 1, or in version 2 if that is all there is.
func Create(hierarchies []Hierarchy, name string) error {
	for _, h := range hierarchies {
		if h.Unified && len(hierarchies) > 1 {
			continue
		}
		if err := os.Mkdir(filepath.Join(h.Path, name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making a cgroup: %w", err)
		}
		if err := h.prepare(name); err != nil {
			return fmt.Errorf("preparing the cgroup '%s': %w", filepath.Join(h.Path, name), err)
		}
	}
	return nil
}

// prepare gives the new cgroup CPUs and memory nodes, which a cpuset of
// version 1 does not inherit.
func (h Hierarchy) prepare(name string) error {
	if !h.CPUSet {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(h.Path, file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(h.Path, name, file), value, 0); err != nil {
			return err
		}
	}
	return nil
}

// Controllers are the controllers that each version 2 hierarchy hands to its
// children, by path. The container runtime hands on more if it needs them.
func Controllers(hierarchies []Hierarchy) (map[string]string, error) {
	enabled := map[string]string{}
	for _, h := range hierarchies {
		if !h.Unified {
			continue
		}
		content, err := os.ReadFile(filepath.Join(h.Path, "cgroup.subtree_control"))
		if err != nil {
			return nil, fmt.Errorf("reading the controllers of '%s': %w", h.Path, err)
		}
		enabled[h.Path] = strings.TrimSpace(string(content))
	}
	return enabled, nil
}

// Restore takes back the controllers that were not handed on before.
func Restore(before map[string]string) error {
	for path, controllers := range before {
		file := filepath.Join(path, "cgroup.subtree_control")
		now, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading the controllers of '%s': %w", path, err)
		}
		for _, c := range strings.Fields(string(now)) {
			if slices.Contains(strings.Fields(controllers), c) {
				continue
			}
			if err := os.WriteFile(file, []byte("-"+c), 0); err != nil {
				return fmt.Errorf("taking back the controller '%s' of '%s': %w", c, path, err)
			}
		}
	}
	return nil
}

// List is every cgroup of the cluster in every hierarchy, the deepest first.
func List(hierarchies []Hierarchy, name string) ([]string, error) {
	var found []string
	for _, h := range hierarchies {
		err := filepath.WalkDir(filepath.Join(h.Path, name), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && entry.IsDir() {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("looking for cgroups: %w", err)
		}
	}
	slices.SortFunc(found, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	return found, nil
}

// Remove removes all cgroups of the cluster, or none: while one of them holds
// a process, the empty ones beside it may be in use as well.
func Remove(hierarchies []Hierarchy, name string) error {
	found, err := List(hierarchies, name)
	if err != nil {
		return err
	}
	for _, path := range found {
		members, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("looking for processes in a cgroup: %w", err)
		}
		if pids := strings.Fields(string(members)); len(pids) > 0 {
			return fmt.Errorf("the cgroup '%s' still holds the processes %v: none was removed", path, pids)
		}
	}
	for _, path := range found {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing a cgroup: %w", err)
		}
	}
	return nil
}
