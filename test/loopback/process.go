package loopback

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is a running program.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  output
	done chan struct{}
}

// Start starts a program, which ends with the test, or with the test's process.
func (s *Site) Start(name, program string, args ...string) *Process {
	s.Helper()
	p := &Process{name: name, cmd: exec.Command(program, args...), done: make(chan struct{})} //nolint:noctx // it is ended by Stop
	p.cmd.Dir = s.Dir
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.OK(p.cmd.Start())
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in its state and log
	}()
	s.Cleanup(func() {
		p.Stop(syscall.SIGTERM)
		if s.Failed() {
			s.Logf("the log of %s:\n%s", name, p.tail())
		}
	})
	return p
}

// Stop sends a signal, waits until the process has ended, and kills it where that takes too long.
func (p *Process) Stop(signal syscall.Signal) {
	if !p.Running() {
		return
	}
	_ = p.cmd.Process.Signal(signal) // it may have ended just now
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Log is what the process has written so far, standard output and standard error.
func (p *Process) Log() string { return p.log.String() }

// longest is how much of a log a failed test shows.
const longest = 8 << 10

func (p *Process) tail() string {
	log := p.Log()
	return log[max(0, len(log)-longest):]
}

// output is a buffer that a process writes to while a test reads it.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}
