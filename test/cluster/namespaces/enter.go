package namespaces

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Within runs start on a thread that has joined all namespaces of a process.
// Processes that start starts live there; this process does not move. The
// thread ends with the call, for it cannot come back.
func Within(pid int, start func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := join(pid); err != nil {
			result <- err
			return
		}
		result <- start()
	}()
	return <-result
}

func join(pid int) error {
	// a thread that shares its root and working directory may not change mounts
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("preparing to join the node's namespaces: %w", err)
	}
	for _, kind := range kinds() {
		if err := setns(procPath(pid, "ns", kind)); err != nil {
			return fmt.Errorf("joining the node's %s namespace: %w", kind, err)
		}
	}
	return nil
}

// WithinNetwork runs start on a thread that has joined the network namespace
// at the path.
func WithinNetwork(path string, start func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := setns(path); err != nil {
			result <- fmt.Errorf("joining the network namespace '%s': %w", path, err)
			return
		}
		result <- start()
	}()
	return <-result
}

func setns(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.Setns(int(file.Fd()), 0)
}
