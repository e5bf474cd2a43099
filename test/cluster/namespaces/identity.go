// Package namespaces knows processes and the namespaces that they live in: who
// a process is for good, who shares its namespaces, and how to join them.
package namespaces

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Identity names a process for good. Its PID may be given to another one
// later, but not with the same start time in the same boot.
type Identity struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // in clock ticks since the boot
	Boot  string `json:"boot"`  // the boot's random name
}

// Identify finds out who has the PID now.
func Identify(pid int) (Identity, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Identity{}, fmt.Errorf("identifying process %d: %w", pid, err)
	}
	stat, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return Identity{}, fmt.Errorf("identifying process %d: %w", pid, err)
	}
	_, start, err := parseStat(string(stat))
	if err != nil {
		return Identity{}, fmt.Errorf("identifying process %d: %w", pid, err)
	}
	return Identity{PID: pid, Start: start, Boot: strings.TrimSpace(string(boot))}, nil
}

// Alive reports whether the very same process still runs; one that has ended
// and only waits to be reaped does not.
func (i Identity) Alive() bool {
	if i.PID <= 0 {
		return false
	}
	now, err := Identify(i.PID)
	if err != nil || now != i {
		return false
	}
	stat, err := os.ReadFile(procPath(i.PID, "stat"))
	if err != nil {
		return false
	}
	state, _, err := parseStat(string(stat))
	return err == nil && state != "Z" && state != "X"
}

// Kill ends the process with SIGKILL. It does nothing if the process is gone,
// and can never hit another one that has its PID now.
func (i Identity) Kill() error {
	if i.PID <= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(i.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening process %d to end it: %w", i.PID, err)
	}
	defer unix.Close(fd)
	if !i.Alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("ending process %d: %w", i.PID, err)
	}
	return nil
}

// parseStat reads the state and the start time of /proc/PID/stat. The
// program's name, in brackets, may itself hold brackets and spaces.
func parseStat(stat string) (state, start string, err error) {
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return "", "", fmt.Errorf("no program name in '%s'", stat)
	}
	const startField = 22 - 3 // of proc(5), counted from the state
	fields := strings.Fields(stat[end+1:])
	if len(fields) <= startField {
		return "", "", fmt.Errorf("only %d fields in '%s'", len(fields), stat)
	}
	return fields[0], fields[startField], nil
}

func procPath(pid int, names ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, names...)...)
}
