// Package supervise runs the cluster's components as the children of the first
// process of a PID namespace. It starts them, logs each to a file and reaps
// every process that ends, its own and orphaned ones; it restarts none, so that
// a component which dies is seen.
package supervise

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Spec says how to run a program.
type Spec struct {
	Name string // of the component
	Path string // of the program
	Args []string
	Env  []string
	Log  string                         // file that output is appended to
	Errs string                         // file for standard error instead; empty: Log too
	In   func(start func() error) error // where to start it; nil: here
}

// Child is a component that was started.
type Child struct {
	PID    int
	done   chan struct{}
	status syscall.WaitStatus
}

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Ended says how the child ended; it must have.
func (c *Child) Ended() string {
	if c.status.Signaled() {
		return "ended by " + c.status.Signal().String()
	}
	return fmt.Sprintf("ended with status %d", c.status.ExitStatus())
}

// Succeeded says whether the child ended with status 0; it must have ended.
func (c *Child) Succeeded() bool { return c.status.Exited() && c.status.ExitStatus() == 0 }

// Family is all children of this process.
type Family struct {
	mu       sync.Mutex
	waiting  map[int]*Child
	children map[string]*Child
}

// NewFamily begins to reap. From then on no other code of this process may
// wait for children, os/exec neither.
func NewFamily() *Family {
	f := &Family{waiting: map[int]*Child{}, children: map[string]*Child{}}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		for range ended {
			f.reap()
		}
	}()
	return f
}

// reap takes every process that has ended. It holds the lock all along: a PID
// in children is never one that was reaped and given to another process.
func (f *Family) reap() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return
		}
		if child, known := f.waiting[pid]; known {
			delete(f.waiting, pid)
			child.status = status
			close(child.done)
		}
	}
}

// Start starts a component, which must not be running.
func (f *Family) Start(spec Spec) (*Child, error) {
	files, err := spec.open()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	defer closeAll(files)
	f.mu.Lock()
	defer f.mu.Unlock()
	if child, known := f.children[spec.Name]; known && child.running() {
		return nil, fmt.Errorf("starting %s: it runs already, as process %d", spec.Name, child.PID)
	}
	child, err := spawn(spec, &os.ProcAttr{Env: spec.Env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	f.waiting[child.PID], f.children[spec.Name] = child, child
	return child, nil
}

// open opens what the program is to have as its standard files.
func (s Spec) open() ([]*os.File, error) {
	files := []*os.File{nil, nil, nil}
	errs := s.Errs
	if errs == "" {
		errs = s.Log
	}
	for fd, path := range []string{os.DevNull, s.Log, errs} {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
		if err != nil {
			closeAll(files)
			return nil, err
		}
		files[fd] = file
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		file.Close() // of nil too
	}
}

func spawn(spec Spec, attributes *os.ProcAttr) (*Child, error) {
	in := spec.In
	if in == nil {
		in = func(start func() error) error { return start() }
	}
	child := &Child{done: make(chan struct{})}
	err := in(func() error {
		process, err := os.StartProcess(spec.Path, append([]string{spec.Path}, spec.Args...), attributes)
		if err != nil {
			return err
		}
		child.PID = process.Pid
		return process.Release()
	})
	return child, err
}

// Kill ends a component at once and waits until it is gone.
func (f *Family) Kill(name string, patience time.Duration) error {
	f.mu.Lock()
	child, known := f.children[name]
	if !known || !child.running() {
		f.mu.Unlock()
		return fmt.Errorf("stopping %s: it does not run", name)
	}
	err := syscall.Kill(child.PID, syscall.SIGKILL) // not reaped: the lock is held
	f.mu.Unlock()
	if err != nil {
		return fmt.Errorf("stopping %s: %w", name, err)
	}
	select {
	case <-child.Done():
		return nil
	case <-time.After(patience):
		return fmt.Errorf("stopping %s: still there %s after SIGKILL", name, patience)
	}
}

func (c *Child) running() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// States says of each component that it runs, or how it ended.
func (f *Family) States() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	states := map[string]string{}
	for name, child := range f.children {
		states[name] = fmt.Sprintf("running, process %d of the node", child.PID)
		if !child.running() {
			states[name] = child.Ended()
		}
	}
	return states
}
