package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside says to this program that the network is its own.
const inside = "BERTH_BENCH_NETWORK"

// isolate runs this program again in a network of its own, where that can be, and reports whether it did. What is
// measured there is measured without the machine's congestion control: one that paces, as BBR does, has bytes wait
// for timers on the loopback interface, and processors idle.
func isolate(ctx context.Context) (done bool, err error) {
	if os.Getenv(inside) != "" {
		return false, loopback()
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "SKIPPED: a network of its own needs root; what this machine's congestion control does is measured too")
		return false, nil
	}
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	c := exec.CommandContext(ctx, self, os.Args[1:]...)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) } // it clears its stage
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	return true, c.Run()
}

// loopback turns the network's loopback interface on, and has its congestion control be one that does not pace.
func loopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer func() { _ = unix.Close(socket) }() // it was only to name the interface
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return errors.Join(unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo), os.WriteFile("/proc/sys/net/ipv4/tcp_congestion_control", []byte("reno"), 0))
}
