package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"berth.dev/berth/manifest"
)

// The exit statuses of `berth rewrite`, beside 0.
const (
	exitRefused  = 1
	exitBadInput = 2
)

const rewriteLong = `Do to manifests what Berth's webhook does to Pods, without a cluster: images that a Connector serves
go through it, and the pull secret is added.

Workloads are Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, ReplicationControllers, Jobs,
CronJobs, PodTemplates, and Lists of them, in YAML or JSON. What is not changed stays byte for byte as it
is: comments, order, quotes, other kinds.

Connectors and Namespaces are taken from the manifests, then from --connectors and --namespace-file, then,
with --kubeconfig or --context, from the cluster. A Namespace that nothing describes is taken as opted in.

Exit status: 0 all is well; 1 a workload contradicts itself (it is printed unchanged, the rest rewritten);
2 the input cannot be read (nothing is printed).`

const rewriteExample = `  # what would change?
  berth rewrite -f examples/deployment.yaml --connectors examples/connector.yaml -o diff

  # the whole manifest, for a cluster without the webhook
  berth rewrite -f examples/deployment.yaml --connectors examples/connector.yaml

  # why was an image left alone?
  berth rewrite -f examples/ --connectors examples/connector.yaml -o report

  # what runs, with the Connectors of the cluster
  kubectl get deployments -n shop -o yaml | berth rewrite -f - --context production -o report`

// rewriteOptions are the flags of `berth rewrite`.
type rewriteOptions struct {
	files, connectors []string
	namespaceFile     string
	namespace         string
	output            string
	configuration     string
	cluster           clusterOptions
}

func rewriteCommand() *cobra.Command {
	var o rewriteOptions
	c := &cobra.Command{
		Use:     "rewrite -f FILE",
		Short:   "Rewrite manifests as the webhook would, without a cluster",
		Long:    rewriteLong,
		Example: rewriteExample,
		Args: func(c *cobra.Command, args []string) error {
			return badInput(cobra.NoArgs(c, args))
		},
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c.Context(), streams{c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()})
		},
	}
	o.add(c.Flags())
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return badInput(err) })
	return c
}

func (o *rewriteOptions) add(flags *pflag.FlagSet) {
	flags.StringArrayVarP(&o.files, "filename", "f", nil, "manifests: a file, a folder, or '-' for standard input; may be repeated")
	flags.StringArrayVar(&o.connectors, "connectors", nil, "file or folder of Connectors (and Namespaces); may be repeated")
	flags.StringVar(&o.namespaceFile, "namespace-file", "", "file of the Namespaces, for their labels and annotations")
	flags.StringVarP(&o.namespace, "namespace", "n", "default", "namespace of objects that do not name theirs")
	flags.StringVarP(&o.output, "output", "o", "yaml", "what is printed: yaml (the manifests as they came, rewritten), json, diff or report")
	flags.StringVar(&o.configuration, "config", "", "configuration file, as 'berth controller' reads it; without one the defaults hold")
	o.cluster.add(flags, "kubeconfig of a cluster that is asked for Connectors and Namespaces; without it and --context none is")
}

// streams are the standard streams of a command.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// statusError is an error with the exit status that tells it.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

func badInput(err error) error {
	if err == nil {
		return nil
	}
	return &statusError{exitBadInput, err}
}

// exitStatus is that of a process which failed by an error.
func exitStatus(err error) int {
	if status, ok := errors.AsType[*statusError](err); ok {
		return status.status
	}
	return 1
}

func (o *rewriteOptions) run(ctx context.Context, std streams) error {
	if err := o.check(); err != nil {
		return badInput(err)
	}
	inputs, err := readStreams(o.files, std.in)
	if err != nil {
		return badInput(err)
	}
	around, err := o.surroundings(ctx, inputs, std.in)
	if err != nil {
		return badInput(err)
	}
	results, err := o.rewrite(inputs, around)
	if err != nil {
		return badInput(err)
	}
	if err := o.print(results, std.out); err != nil {
		return badInput(err)
	}
	return o.tell(results, std.err)
}

func (o *rewriteOptions) check() error {
	if len(o.files) == 0 {
		return errors.New("name the manifests to rewrite: 'berth rewrite -f FILE', with '-' for standard input")
	}
	if outputs := []string{"yaml", "json", "diff", "report"}; !slices.Contains(outputs, o.output) {
		return fmt.Errorf("'--output %s' must be one of %s", o.output, strings.Join(outputs, ", "))
	}
	return nil
}

// result is a stream before and after.
type result struct {
	name          string
	before, after *manifest.Stream
	report        manifest.Report
}

// rewrite runs the core over all inputs before anything is printed: bad input leaves no half of an output.
func (o *rewriteOptions) rewrite(inputs []input, around *manifest.Surroundings) ([]result, error) {
	settings, err := newConfiguration(o.configuration)
	if err != nil {
		return nil, err
	}
	var results []result
	for _, in := range inputs {
		after, report, err := in.Rewrite(around, settings.now())
		if err != nil {
			return nil, err
		}
		results = append(results, result{in.name, in.Stream, after, report})
	}
	return results, nil
}

// tell prints what the user did not ask for but should know, and returns an
// error where a workload is refused.
func (o *rewriteOptions) tell(results []result, to io.Writer) error {
	refused := 0
	for _, r := range results {
		entries := r.report.Refusals()
		refused += len(entries)
		if o.output != "report" {
			entries = append(r.report.Warnings(), entries...)
		}
		for _, e := range entries {
			if _, err := fmt.Fprintln(to, e.String()); err != nil {
				return badInput(fmt.Errorf("write to standard error: %w", err))
			}
		}
	}
	if refused > 0 {
		return &statusError{exitRefused, fmt.Errorf("%d refused: change what the lines above say; the webhook would not admit their Pods", refused)}
	}
	return nil
}
