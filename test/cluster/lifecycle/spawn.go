package lifecycle

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"berth.dev/berth/test/cluster/build"
	"berth.dev/berth/test/cluster/layout"
	"berth.dev/berth/test/cluster/namespaces"
	"berth.dev/berth/test/cluster/node"
)

// first is the first process of the node, as long as it starts.
type first struct {
	cmd      *exec.Cmd
	setup    io.WriteCloser // it ends if this is closed before it is ready
	progress io.ReadCloser  // lines that it tells
}

// spawn starts this program as the first process of new namespaces. It does
// nothing yet but wait for its Setup.
func (s Starter) spawn(held *os.File, installed build.Installed) (*first, error) {
	log, err := os.OpenFile(s.State.Log("node"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("starting the node: %w", err)
	}
	defer log.Close()
	progress, told, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the node: %w", err)
	}
	defer told.Close()
	cmd := exec.Command(s.Program, "node")
	cmd.Env, cmd.Dir = []string{"PATH=" + installed.Path(), "HOME=/root"}, "/"
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{told, held}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	setup, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the node: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the node in namespaces of its own: %w", err)
	}
	return &first{cmd: cmd, setup: setup, progress: progress}, nil
}

// begin records the process, then tells it what to start.
func (f *first) begin(r *record, state layout.State) error {
	var err error
	if r.Node, err = namespaces.Identify(f.cmd.Process.Pid); err != nil {
		return err
	}
	if r.Namespaces, err = namespaces.Of(f.cmd.Process.Pid); err != nil {
		return err
	}
	if err := r.save(state); err != nil {
		return err
	}
	if err := json.NewEncoder(f.setup).Encode(node.Setup{State: state, Installed: r.Installed}); err != nil {
		return fmt.Errorf("telling the node what to start: %w", err)
	}
	return nil
}

// release lets go of the process, which lives on if it is ready. It is reaped
// if it ends while this process lives.
func (f *first) release() {
	f.setup.Close()
	f.progress.Close()
	go f.cmd.Wait() //nolint:errcheck // how it ended stands in its log
}
