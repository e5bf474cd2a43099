package lifecycle

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"berth.dev/berth/test/cluster/build"
	"berth.dev/berth/test/cluster/cgroup"
	"berth.dev/berth/test/cluster/config"
	"berth.dev/berth/test/cluster/harbor"
	"berth.dev/berth/test/cluster/images"
	"berth.dev/berth/test/cluster/layout"
	"berth.dev/berth/test/cluster/leftover"
	"berth.dev/berth/test/cluster/node"
	"berth.dev/berth/test/cluster/pki"
)

// Starter brings a cluster up.
type Starter struct {
	State   layout.State
	Cache   string
	Program string // this program, to run as the node's first process
	Build   func(context.Context) (build.Installed, error)
	Out     io.Writer // progress
}

// Up brings the cluster up and returns when it is ready. If that fails, or the
// context ends, nothing stays.
func (s Starter) Up(ctx context.Context) error {
	held, err := lock(s.Cache, s.State)
	if errors.Is(err, errTaken) {
		fmt.Fprintf(s.Out, "the cluster is up already, in '%s'\n", s.State)
		return nil
	}
	if err != nil {
		return err
	}
	defer held.Close()
	if err := s.cleanRemains(ctx); err != nil {
		return err
	}
	installed, err := s.Build(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := s.start(ctx, installed, held); err != nil {
		fmt.Fprintln(s.Out, "taking down what was started")
		return errors.Join(err, takeDown(context.WithoutCancel(ctx), s.State, s.Out))
	}
	fmt.Fprintf(s.Out, "the cluster is up, in '%s', after %.1fs: try `cluster exec -- kubectl get pods -A`\n", s.State, time.Since(begun).Seconds())
	return nil
}

// cleanRemains removes what a cluster left that did not end by `down`.
func (s Starter) cleanRemains(ctx context.Context) error {
	_, known, err := load(s.State)
	if err != nil {
		return err
	}
	hierarchies, err := hierarchies()
	if err != nil {
		return err
	}
	cgroups, err := cgroup.List(hierarchies, layout.ClusterName)
	if err != nil {
		return err
	}
	if !known && len(cgroups) == 0 {
		return nil
	}
	fmt.Fprintln(s.Out, "cleaning up after a cluster that ended without `cluster down`")
	return takeDown(ctx, s.State, s.Out)
}

func (s Starter) start(ctx context.Context, installed build.Installed, held *os.File) error {
	if err := s.prepare(installed); err != nil {
		return err
	}
	r, err := s.claim(ctx, installed)
	if err != nil {
		return err
	}
	first, err := s.spawn(held, installed)
	if err != nil {
		return err
	}
	defer first.release()
	if err := first.begin(&r, s.State); err != nil {
		return err
	}
	if err := s.follow(ctx, first.progress); err != nil {
		return err
	}
	r.Ready = true
	return r.save(s.State)
}

// prepare writes everything that the node reads into the state directory.
func (s Starter) prepare(installed build.Installed) error {
	for _, dir := range []string{s.State.Path("log"), s.State.Harbor("storage")} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("clearing the state directory: %w", err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the state directory: %w", err)
		}
	}
	if err := errors.Join(pki.Kubernetes(s.State), pki.Harbor(s.State)); err != nil {
		return err
	}
	password, err := harbor.Random()
	if err != nil {
		return err
	}
	if err := harbor.SetPassword(s.State, password); err != nil {
		return err
	}
	secret, err := harbor.Random()
	if err != nil {
		return err
	}
	values := config.Values{State: s.State, Runc: installed.Program("runc", "runc"), CNI: installed["cni"], HTTPSecret: secret}
	if err := config.Write(values); err != nil {
		return err
	}
	pause, err := images.App(installed.Program("testapp", "testapp"))
	if err != nil {
		return err
	}
	return images.Save(s.State.Path("pause.tar"), layout.PauseImage, pause)
}

// claim writes down what the machine looks like, then takes from it what does
// not end by itself: the cgroups.
func (s Starter) claim(ctx context.Context, installed build.Installed) (record, error) {
	before, err := leftover.Take(ctx)
	if err != nil {
		return record{}, err
	}
	if err := before.Save(s.State.Before()); err != nil {
		return record{}, err
	}
	hierarchies, err := hierarchies()
	if err != nil {
		return record{}, err
	}
	controllers, err := cgroup.Controllers(hierarchies)
	if err != nil {
		return record{}, err
	}
	r := record{Installed: installed, Controllers: controllers}
	if err := r.save(s.State); err != nil {
		return r, err
	}
	return r, cgroup.Create(hierarchies, layout.ClusterName)
}

// follow repeats what the node tells until it is ready. A node that ends, or
// a context that does, ends the story.
func (s Starter) follow(ctx context.Context, progress io.ReadCloser) error {
	stop := context.AfterFunc(ctx, func() { progress.Close() })
	defer stop()
	lines := bufio.NewScanner(progress)
	for lines.Scan() {
		if lines.Text() == node.Ready {
			return nil
		}
		fmt.Fprintln(s.Out, lines.Text())
	}
	if ctx.Err() != nil {
		return fmt.Errorf("starting the cluster: %w", context.Cause(ctx))
	}
	return fmt.Errorf("starting the cluster: the node ended: %s", lastLine(s.State.Log("node")))
}

func lastLine(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	text := strings.TrimSpace(string(content))
	return text[strings.LastIndexByte(text, '\n')+1:]
}

func hierarchies() ([]cgroup.Hierarchy, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("looking for cgroups: %w", err)
	}
	return cgroup.Hierarchies(string(mountinfo)), nil
}
