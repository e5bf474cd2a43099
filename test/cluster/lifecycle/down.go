package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"berth.dev/berth/test/cluster/cgroup"
	"berth.dev/berth/test/cluster/layout"
	"berth.dev/berth/test/cluster/leftover"
	"berth.dev/berth/test/cluster/namespaces"
)

const (
	patience = 30 * time.Second
	interval = 20 * time.Millisecond
)

// Down ends the cluster, whatever state it is in, and proves that nothing of
// it is left; if something is, that is an error. The logs stay. A cluster with
// another state directory is left alone.
func Down(ctx context.Context, state layout.State, cache string, out io.Writer) error {
	if Inside() {
		return errors.New("taking the cluster down: this runs inside of it; run `cluster down` outside")
	}
	r, _, err := load(state)
	if err != nil {
		return err
	}
	if err := r.Node.Kill(); err != nil { // it has the lock
		return err
	}
	held, err := awaitLock(ctx, cache, state)
	if err != nil {
		return fmt.Errorf("taking down the cluster in '%s': %w", state, err)
	}
	defer held.Close()
	return takeDown(ctx, state, out)
}

// awaitLock takes the lock when the node that has just been ended, or the `up`
// that was starting it, lets go of it. For another cluster it does not wait.
func awaitLock(ctx context.Context, cache string, state layout.State) (*os.File, error) {
	var held *os.File
	var other error
	err := await(ctx, func() error {
		var err error
		if held, err = lock(cache, state); errors.Is(err, errOther) {
			other = err
			return nil
		}
		return err
	})
	return held, errors.Join(other, err)
}

// takeDown is Down for who has the lock: without it, the cgroups of our name
// may be another cluster's.
func takeDown(ctx context.Context, state layout.State, out io.Writer) error {
	r, known, err := load(state)
	if err != nil {
		return err
	}
	if err := r.Node.Kill(); err != nil {
		return err
	}
	seen, err := awaitEmpty(ctx, r.Namespaces)
	if err != nil {
		return err
	}
	hierarchies, err := removeCgroups(ctx, r.Controllers)
	if err != nil {
		return err
	}
	checked, err := compare(ctx, state)
	if err != nil {
		return err
	}
	if err := wipe(state); err != nil {
		return err
	}
	if !known {
		fmt.Fprintf(out, "no cluster was up in '%s'\n", state)
	}
	fmt.Fprintf(out, "no process, mount, namespace, cgroup or sysctl of the cluster is left: looked at %d processes, %d cgroup hierarchies%s\n",
		seen, hierarchies, checked)
	return nil
}

// awaitEmpty waits until no process lives in the cluster's namespaces: without
// one they end too, and their mounts and networks.
func awaitEmpty(ctx context.Context, set namespaces.Set) (seen int, err error) {
	err = await(ctx, func() error {
		members, looked, err := set.Members()
		seen = looked
		if err == nil && len(members) > 0 {
			err = fmt.Errorf("processes %v still live in the cluster's namespaces", members)
		}
		return err
	})
	return seen, err
}

// removeCgroups waits for the kernel to let go of cgroups whose processes have
// just ended.
func removeCgroups(ctx context.Context, controllers map[string]string) (int, error) {
	hierarchies, err := hierarchies()
	if err != nil {
		return 0, err
	}
	if err := await(ctx, func() error { return cgroup.Remove(hierarchies, layout.ClusterName) }); err != nil {
		return 0, err
	}
	return len(hierarchies), cgroup.Restore(controllers)
}

// compare holds the machine against what it looked like before the cluster,
// if that was written down, and says what it looked at.
func compare(ctx context.Context, state layout.State) (string, error) {
	before, err := leftover.Load(state.Before())
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	after, err := leftover.Take(ctx)
	if err != nil {
		return "", err
	}
	if found := leftover.Compare(before, after); len(found) > 0 {
		return "", fmt.Errorf("taking the cluster down: this was not so before it came up, and is now:\n  %s\n"+
			"if something else on this machine did it, remove '%s' and run `cluster down` again", strings.Join(found, "\n  "), state.Before())
	}
	return fmt.Sprintf(", %d mounts, %d network interfaces, %d lines of nftables rules and %d sysctls, all as before",
		len(after.Mounts), len(after.Links), len(after.Rules), len(after.Sysctls)), nil
}

func wipe(state layout.State) error {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("looking for mounts below the state directory: %w", err)
	}
	return state.Wipe(string(mountinfo))
}

// await looks until the condition holds.
func await(ctx context.Context, condition func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("taking the cluster down: not within %s: %w", patience, err)
		case <-tick.C:
		}
	}
}
