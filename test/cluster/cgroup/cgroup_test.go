package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestHierarchies(t *testing.T) {
	const mountinfo = `40 30 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
41 40 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
42 40 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
43 40 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`
	want := []Hierarchy{
		{Path: "/sys/fs/cgroup/cpu"},
		{Path: "/sys/fs/cgroup/cpuset", CPUSet: true},
		{Path: "/sys/fs/cgroup/unified", Unified: true},
	}
	if got := Hierarchies(mountinfo); !slices.Equal(got, want) {
		t.Errorf("\ngot  %+v\nwant %+v", got, want)
	}
}

func TestCreateListRemove(t *testing.T) {
	cpu, unified := t.TempDir(), t.TempDir()
	hierarchies := []Hierarchy{{Path: cpu}, {Path: unified, Unified: true}}
	if err := Create(hierarchies, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(unified, "x")); err == nil {
		t.Error("made one in version 2 beside version 1")
	}
	if err := os.MkdirAll(filepath.Join(cpu, "x", "pods", "one"), 0o755); err != nil {
		t.Fatal(err)
	}
	if found, err := List(hierarchies, "x"); err != nil || len(found) != 3 || filepath.Base(found[0]) != "one" {
		t.Errorf("found %v, %v", found, err)
	}
	if err := Remove(hierarchies, "x"); err != nil {
		t.Error(err)
	}
	if found, err := List(hierarchies, "x"); err != nil || len(found) != 0 {
		t.Errorf("left %v, %v", found, err)
	}
}

func TestRemoveTouchesNothingWhileAProcessIsLeft(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"x/busy", "x/empty"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "x", "busy", "cgroup.procs"), []byte("42\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Remove([]Hierarchy{{Path: root}}, "x"); err == nil {
		t.Error("removed cgroups in use")
	}
	if _, err := os.Stat(filepath.Join(root, "x", "empty")); err != nil {
		t.Errorf("removed an empty cgroup beside one in use: %v", err)
	}
}
