package lifecycle

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"berth.dev/berth/test/cluster/layout"
	"berth.dev/berth/test/cluster/namespaces"
)

// notFound is a shell's exit status for a command that does not exist.
const notFound = 127

// Exec runs a command in all namespaces of the node, with this process's
// environment, working directory and standard files, and returns its exit
// status. The cluster's programs are on PATH and KUBECONFIG is set.
func Exec(state layout.State, command []string) (int, error) {
	r, err := loadUp(state)
	if err != nil {
		return 0, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return 0, fmt.Errorf("finding the working directory: %w", err)
	}
	path := strings.Join([]string{r.Installed.Path(), os.Getenv("PATH")}, ":")
	for name, value := range map[string]string{"PATH": path, "KUBECONFIG": state.Kubeconfig()} {
		if err := os.Setenv(name, value); err != nil {
			return 0, fmt.Errorf("setting the environment of '%s': %w", command[0], err)
		}
	}
	if Inside() {
		return runAndWait(command, dir)
	}
	var status int
	err = namespaces.Within(r.Node.PID, func() error {
		var err error
		status, err = runAndWait(command, dir)
		return err
	})
	return status, err
}

// runAndWait runs the command on this thread.
func runAndWait(command []string, dir string) (int, error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return notFound, fmt.Errorf("running '%s' in the cluster: %w", command[0], err)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	process, err := os.StartProcess(path, command, &os.ProcAttr{
		Dir: dir, Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return 0, fmt.Errorf("running '%s' in the cluster: %w", command[0], err)
	}
	go passOn(signals, process)
	state, err := process.Wait()
	if err != nil {
		return 0, fmt.Errorf("waiting for '%s': %w", command[0], err)
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return state.ExitCode(), nil
}

// passOn hands signals to the command, but for those that a terminal sends to
// both at once.
func passOn(signals <-chan os.Signal, process *os.Process) {
	for s := range signals {
		if s == syscall.SIGTERM || s == syscall.SIGHUP {
			process.Signal(s) //nolint:errcheck // it may have ended just now
		}
	}
}
