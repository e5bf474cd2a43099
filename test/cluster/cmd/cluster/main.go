// Command cluster builds and runs a real Kubernetes of one node on one Linux
// machine, with a private upstream registry beside it. See ../../README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"berth.dev/berth/test/cluster/layout"
)

const usage = `usage: cluster [--state DIR] COMMAND

  build                      build what the cluster is made of, once
  path COMPONENT             build this one part, if need be, and print where its programs are
  up                         bring the cluster up (builds what is missing)
  down                       take it down and prove that nothing is left
  status                     say what runs; status 1 if no cluster is up
  exec -- COMMAND...         run a command inside, with kubectl, ctr and KUBECONFIG
  logs [NAME]                print a component's log, or the names there are
  restart COMPONENT          end it with SIGKILL, start it again
  image load FILE            load an image (a tar) into the node's containerd
  harbor stop|start          end the upstream registry with SIGKILL, start it again
  harbor passwd PASSWORD     change its password
  harbor push NAME[:TAG] [--size 500MiB]
                             push an image of this size to it, print the digest

  --state DIR    where the cluster keeps its files (or BERTH_CLUSTER_STATE; '.cluster')
  --source DIR   the repository (found from the working directory upwards)
  --jobs N       how many compilers to run at once (the number of CPUs)
`

// errUsage asks for the usage to be printed.
var errUsage = errors.New("wrong arguments")

// options are what the flags say, for every command.
type options struct {
	dir    string
	state  layout.State
	source string
	jobs   string
	out    io.Writer // results
	err    io.Writer // progress
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	status, err := run(ctx, os.Args[1:])
	if errors.Is(err, errUsage) {
		fmt.Fprint(os.Stderr, usage)
		status = 2
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "cluster: %v\n", err)
		status = max(status, 1)
	}
	os.Exit(status)
}

func run(ctx context.Context, args []string) (int, error) {
	o := options{dir: ".cluster", out: os.Stdout, err: os.Stderr}
	if dir := os.Getenv("BERTH_CLUSTER_STATE"); dir != "" {
		o.dir = dir
	}
	rest, err := o.parse("cluster", args, func(*flag.FlagSet) {})
	if err != nil {
		return 2, err
	}
	if len(rest) == 0 {
		return 2, errUsage
	}
	command, known := commands()[rest[0]]
	if !known {
		return 2, fmt.Errorf("%w: no command '%s'", errUsage, rest[0])
	}
	if err := command.possible(); err != nil {
		return 2, err
	}
	return command.run(ctx, &o, rest[1:])
}

// parse reads flags until the first argument that is none. Those of every
// command may stand before its name or after.
func (o *options) parse(name string, args []string, more func(*flag.FlagSet)) ([]string, error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.dir, "state", o.dir, "")
	flags.StringVar(&o.source, "source", o.source, "")
	flags.StringVar(&o.jobs, "jobs", o.jobs, "")
	more(flags)
	if err := flags.Parse(args); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errUsage, name, err)
	}
	state, err := layout.ResolveState(o.dir)
	o.state = state
	return flags.Args(), err
}

// command is one of the program's commands.
type command struct {
	anyone bool // it needs neither root nor Linux
	run    func(context.Context, *options, []string) (int, error)
}

func commands() map[string]command {
	return map[string]command{
		"build":   {anyone: true, run: runBuild},
		"path":    {anyone: true, run: runPath},
		"up":      {run: runUp},
		"down":    {run: runDown},
		"status":  {run: runStatus},
		"exec":    {run: runExec},
		"logs":    {anyone: true, run: runLogs},
		"restart": {run: runRestart},
		"image":   {run: runImage},
		"harbor":  {run: runHarbor},
		"node":    {run: runNode}, // what `up` starts inside
	}
}

func (c command) possible() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the cluster runs on Linux, in namespaces of its kernel; this is %s: use a virtual machine", runtime.GOOS)
	}
	if !c.anyone && os.Geteuid() != 0 {
		return errors.New("only root may make the namespaces, cgroups and networks of the cluster: run this as root (`cluster build` needs no root)")
	}
	return nil
}
