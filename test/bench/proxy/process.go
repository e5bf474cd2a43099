package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a proxy or a registry that runs, with the processes that it started.
type process struct {
	command *exec.Cmd
	ended   chan error
	// tidies is one that has something to remove before it ends.
	tidies bool
}

// patience is how long a process may take to end.
const patience = 5 * time.Second

// start starts a program in a process group of its own; what it says goes to a file in the stage's folder.
func (s *stage) start(ctx context.Context, name string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(s.folder, fmt.Sprintf("log-%d-%s", len(s.processes), filepath.Base(name))))
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(context.WithoutCancel(ctx), name, args...) // the stage ends it
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = c.Start()
	_ = log.Close() // the child has its own
	if err != nil {
		return nil, fmt.Errorf("start '%s': %w", name, err)
	}
	p := &process{command: c, ended: make(chan error, 1)}
	go func() { p.ended <- c.Wait() }()
	s.processes = append(s.processes, p)
	return p, nil
}

// end kills the process group.
func (p *process) end() {
	if p.tidies {
		_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case err := <-p.ended:
			p.ended <- err
		case <-time.After(patience):
		}
	}
	_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL) // it may have ended
	select {
	case err := <-p.ended:
		p.ended <- err
	case <-time.After(patience):
	}
}

// listening returns once something listens there.
func (s *stage) listening(ctx context.Context, p *process, address string) error {
	end := time.Now().Add(20 * time.Second)
	for time.Now().Before(end) {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case err := <-p.ended:
			p.ended <- err
			return fmt.Errorf("'%s' ended: %w; its log is in '%s'", p.command.Path, errors.Join(err, ctx.Err()), s.folder)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("'%s' does not listen on %s", p.command.Path, address)
}

// ticks is how Linux counts the time of processors for user space: 100 a second, on every architecture.
const ticks = 100

// cpu is the time that the processors have spent on the process group, in seconds.
func (p *process) cpu() (float64, error) {
	entries, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	total := 0
	for _, entry := range entries {
		fields, ok := stat(entry)
		if !ok || fields[2] != strconv.Itoa(p.command.Process.Pid) {
			continue
		}
		for _, field := range fields[11:13] { // utime and stime
			n, err := strconv.Atoi(field)
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	return float64(total) / ticks, nil
}

// stat returns the fields of /proc/PID/stat from the third on, the state.
func stat(file string) ([]string, bool) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, false // it has ended
	}
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	return fields, len(fields) > 13
}

// settled is what the process holds of memory once that stays the same: buffers fill, and what the beginning took is given back.
func (p *process) settled() (int64, error) {
	const long, most = 3 * time.Second, 30 * time.Second
	seen, since := int64(0), time.Now()
	for end := time.Now().Add(most); time.Now().Before(end) && time.Since(since) < long; time.Sleep(200 * time.Millisecond) {
		now, err := p.memory()
		if err != nil {
			return 0, err
		}
		if now < seen-seen/100 || now > seen+seen/100 {
			seen, since = now, time.Now()
		}
	}
	return p.memory()
}

// memory is what the process holds of the machine's, in bytes.
func (p *process) memory() (int64, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(content), "\n") {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("its status has no VmRSS")
}
