package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"berth.dev/berth/test/cluster/build"
	"berth.dev/berth/test/cluster/lifecycle"
	"berth.dev/berth/test/cluster/node"
)

func runBuild(ctx context.Context, o *options, args []string) (int, error) {
	if err := o.noArguments("build", args); err != nil {
		return 2, err
	}
	_, err := o.build(ctx)
	return 0, err
}

// runPath is for who needs one part alone, such as the API server in tests
// without a cluster.
func runPath(ctx context.Context, o *options, args []string) (int, error) {
	args, err := o.parse("path", args, noFlags)
	if err != nil {
		return 2, err
	}
	components := build.Components()
	n := -1
	if len(args) == 1 {
		n = slices.IndexFunc(components, func(c build.Component) bool { return c.Name == args[0] })
	}
	if n < 0 {
		return 2, fmt.Errorf("%w: path wants the name of a part, such as 'kubernetes'", errUsage)
	}
	builder, err := o.builder(build.NewProgress(os.Stderr))
	if err != nil {
		return 1, err
	}
	installed, err := builder.All(ctx, components[n:n+1])
	if err != nil {
		return 1, err
	}
	fmt.Fprintln(o.out, installed[args[0]])
	return 0, nil
}

// build builds what is missing and says where everything is.
func (o *options) build(ctx context.Context) (build.Installed, error) {
	progress := build.NewProgress(os.Stderr)
	if err := progress.Packages(ctx); err != nil {
		return nil, err
	}
	builder, err := o.builder(progress)
	if err != nil {
		return nil, err
	}
	return builder.All(ctx, build.Components())
}

func (o *options) builder(progress *build.Progress) (build.Builder, error) {
	root, err := o.root()
	if err != nil {
		return build.Builder{}, err
	}
	cache, err := build.CacheDir()
	return build.Builder{Root: root, Cache: cache, Jobs: o.jobs, Say: progress}, err
}

func (o *options) root() (string, error) {
	dir := o.source
	if dir == "" {
		dir = "."
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	return build.FindRoot(dir)
}

func runUp(ctx context.Context, o *options, args []string) (int, error) {
	if err := o.noArguments("up", args); err != nil {
		return 2, err
	}
	cache, err := build.CacheDir()
	if err != nil {
		return 1, err
	}
	program, err := os.Executable()
	if err != nil {
		return 1, fmt.Errorf("finding this program: %w", err)
	}
	starter := lifecycle.Starter{State: o.state, Cache: cache, Program: program, Build: o.build, Out: o.err}
	if err := starter.Up(ctx); err != nil {
		if ctx.Err() != nil {
			return 130, err
		}
		return 1, err
	}
	return 0, nil
}

func runDown(ctx context.Context, o *options, args []string) (int, error) {
	if err := o.noArguments("down", args); err != nil {
		return 2, err
	}
	cache, err := build.CacheDir()
	if err != nil {
		return 1, err
	}
	return 0, lifecycle.Down(ctx, o.state, cache, o.err)
}

func runNode(ctx context.Context, _ *options, _ []string) (int, error) {
	return 1, node.Main(context.WithoutCancel(ctx))
}

func runExec(_ context.Context, o *options, args []string) (int, error) {
	args, err := o.parse("exec", args, noFlags)
	if err != nil || len(args) == 0 {
		return 2, fmt.Errorf("%w: exec wants a command after --", errUsage)
	}
	return lifecycle.Exec(o.state, args)
}

func runStatus(ctx context.Context, o *options, args []string) (int, error) {
	if err := o.noArguments("status", args); err != nil {
		return 2, err
	}
	control, err := lifecycle.Control(o.state)
	if err != nil {
		return 1, err
	}
	states, err := control.States(ctx)
	if err != nil {
		return 1, err
	}
	for _, name := range node.Names() {
		fmt.Fprintf(o.out, "%-24s %s\n", name, states[name])
	}
	return 0, nil
}

func runRestart(ctx context.Context, o *options, args []string) (int, error) {
	args, err := o.parse("restart", args, noFlags)
	if err != nil {
		return 2, err
	}
	if len(args) != 1 {
		return 2, fmt.Errorf("%w: restart wants the name of a component, such as kubelet", errUsage)
	}
	control, err := lifecycle.Control(o.state)
	if err != nil {
		return 1, err
	}
	return 0, control.Restart(ctx, args[0])
}

func runLogs(_ context.Context, o *options, args []string) (int, error) {
	args, err := o.parse("logs", args, noFlags)
	if err != nil {
		return 2, err
	}
	if len(args) == 1 {
		content, err := os.ReadFile(o.state.Log(filepath.Base(args[0])))
		if err != nil {
			return 1, fmt.Errorf("reading the log of '%s': %w; `cluster logs` lists the names", args[0], err)
		}
		_, err = o.out.Write(content)
		return 0, err
	}
	entries, err := os.ReadDir(o.state.Path("log"))
	if err != nil {
		return 1, fmt.Errorf("listing the logs: %w; they are there after `cluster up`", err)
	}
	for _, entry := range entries {
		fmt.Fprintln(o.out, strings.TrimSuffix(entry.Name(), ".log"))
	}
	return 0, nil
}
