package lifecycle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"berth.dev/berth/test/cluster/layout"
)

// errTaken says that our own cluster is up.
var errTaken = errors.New("a cluster is up")

// errOther says that a cluster with another state directory has the machine.
var errOther = errors.New("another cluster is up on this machine")

// lock takes the lock that lets one cluster at a time have the machine: all
// have the same name for their cgroups. `up` takes it and the node keeps it;
// it ends with them. The file says whose it is.
func lock(cache string, state layout.State) (*os.File, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("locking the machine: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(cache, "up.lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the machine: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer file.Close()
		return nil, taken(file, state)
	}
	if err := file.Truncate(0); err != nil {
		return nil, fmt.Errorf("locking the machine: %w", err)
	}
	if _, err := file.WriteAt([]byte(state), 0); err != nil {
		return nil, fmt.Errorf("locking the machine: %w", err)
	}
	return file, nil
}

// taken tells whose cluster is in the way. It is errTaken itself if that is
// ours and ready.
func taken(file io.Reader, state layout.State) error {
	content, err := io.ReadAll(file)
	if err != nil {
		return fmt.Errorf("reading who locks the machine: %w", err)
	}
	if owner := strings.TrimSpace(string(content)); owner != string(state) {
		return fmt.Errorf("%w, in '%s': take it down first with `cluster down --state %s`", errOther, owner, owner)
	}
	r, known, err := load(state)
	if err != nil {
		return err
	}
	if known && r.Ready {
		return errTaken
	}
	return fmt.Errorf("another `cluster up` is starting the cluster in '%s': wait for it, or end it with `cluster down`", state)
}
