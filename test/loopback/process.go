package loopback

import (
	"os"
	"os/exec"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/rand"
)

// Process is a running program.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  string // a file: what a program says stands in it before anybody has its answer
	site *Site
	done chan struct{}
}

// Start starts a program, which ends with the test, or with the test's process.
func (s *Site) Start(name, program string, args ...string) *Process {
	s.Helper()
	p := &Process{name: name, cmd: exec.Command(program, args...), done: make(chan struct{}), log: s.Path(name + "-" + rand.String(8) + ".log"), site: s} //nolint:noctx // it is ended by Stop
	log, err := os.Create(p.log)
	s.OK(err)
	defer func() { _ = log.Close() }() // the program has its own
	p.cmd.Dir = s.Dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
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
func (p *Process) Log() string {
	p.site.Helper()
	content, err := os.ReadFile(p.log)
	p.site.OK(err)
	return string(content)
}

// longest is how much of a log a failed test shows.
const longest = 8 << 10

func (p *Process) tail() string {
	log := p.Log()
	return log[max(0, len(log)-longest):]
}
