// Package lifecycle is the outside of the cluster: bringing it up, running
// commands in it, taking it down, and proving that nothing is left.
//
// What runs is recorded in the state directory before it runs, so that a
// cluster whose `up` was interrupted, or that was killed, can be cleaned up.
package lifecycle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"berth.dev/berth/test/cluster/build"
	"berth.dev/berth/test/cluster/layout"
	"berth.dev/berth/test/cluster/namespaces"
	"berth.dev/berth/test/cluster/node"
)

// record says what runs, or ran.
type record struct {
	Node        namespaces.Identity `json:"node"`        // first process of the namespaces
	Namespaces  namespaces.Set      `json:"namespaces"`  // its own
	Installed   build.Installed     `json:"installed"`   // where the programs are
	Controllers map[string]string   `json:"controllers"` // of cgroup hierarchies, before
	Ready       bool                `json:"ready"`       // `up` has seen it ready
}

func (r record) save(state layout.State) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("recording the cluster: %w", err)
	}
	if err := os.WriteFile(state.Record()+".new", append(content, '\n'), 0o600); err != nil {
		return fmt.Errorf("recording the cluster: %w", err)
	}
	if err := os.Rename(state.Record()+".new", state.Record()); err != nil {
		return fmt.Errorf("recording the cluster: %w", err)
	}
	return nil
}

// load reads the record; known is false if there is none.
func load(state layout.State) (r record, known bool, err error) {
	content, err := os.ReadFile(state.Record())
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("reading what runs: %w", err)
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, false, fmt.Errorf("reading what runs: '%s': %w", state.Record(), err)
	}
	return r, true, nil
}

// loadUp reads the record of a cluster that is up, as seen from outside or,
// by its mount namespace, from inside.
func loadUp(state layout.State) (record, error) {
	r, known, err := load(state)
	if err != nil {
		return r, err
	}
	if !known || !r.Ready || !(Inside() || r.Node.Alive()) {
		return r, fmt.Errorf("no cluster is up in '%s': run `cluster up` first, or name its state directory with --state", state)
	}
	return r, nil
}

// Inside reports whether this process itself runs in the node's namespaces.
func Inside() bool {
	_, err := os.Stat(layout.ControlSocket)
	return err == nil
}

// Control connects to the node of a cluster that is up.
func Control(state layout.State) (node.Control, error) {
	r, err := loadUp(state)
	if err != nil {
		return node.Control{}, err
	}
	if Inside() {
		return node.Connect("/"), nil
	}
	return node.Connect(fmt.Sprintf("/proc/%d/root", r.Node.PID)), nil
}

// Program is the path of a component's program of the same name.
func Program(state layout.State, name string) (string, error) {
	r, err := loadUp(state)
	if err != nil {
		return "", err
	}
	return r.Installed.Program(name, name), nil
}
