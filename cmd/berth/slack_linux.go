package main

import (
	"log/slog"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// slack is how late a thread may be woken, in nanoseconds: as coarse as the timers of Go's poller are.
const slack = 1e6

// relaxTimers has the threads of this process woken less to the point.
//
// The Go runtime has one that looks every 20 µs, as long as there is anything to
// do, whether a goroutine has been in the kernel for longer, and gives its
// processor to another one. A write to a socket takes about as long. In a virtual
// machine, where each timer is an exit, a seventh of the time for small requests
// went into that. A thread has its slack from the one that made it, and the first
// of a program from the one before it (PR_SET_TIMERSLACK), hence the second
// start. A kernel that does not let us costs nothing but that time.
func relaxTimers() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || now >= slack {
		return
	}
	self, err := os.Executable()
	if err == nil {
		err = unix.Prctl(unix.PR_SET_TIMERSLACK, slack, 0, 0, 0)
	}
	if err == nil {
		err = syscall.Exec(self, os.Args, os.Environ()) //nolint:gosec // it is this program
	}
	slog.Warn("timers stay exact", "error", err)
}
