// Command berth is all of Berth: the processes of a cluster, and the tools of
// those who use it. Each subcommand wires packages together from its flags;
// what is done is done there.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	_ "golang.org/x/crypto/x509roots/fallback" // the image has no certificate authorities of a distribution
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// version is set when a release is linked.
var version = "dev"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "proxy" {
		relaxTimers()
	}
	ctx := ctrl.SetupSignalHandler()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "berth:", err)
		os.Exit(exitStatus(err))
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "berth",
		Short: "Registries without credentials in workloads",
		Long: "Berth lets the workloads of a Kubernetes cluster use registries without holding a credential.\n" +
			"'controller', 'proxy' and 'node' are its processes in the cluster; the manifests start them. The other\n" +
			"commands are for people.",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	var level slog.Level
	c.PersistentFlags().TextVar(&level, "log-level", slog.LevelInfo, "least level that is logged: DEBUG, INFO, WARN or ERROR")
	c.PersistentPreRun = func(*cobra.Command, []string) {
		logTo(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	}
	c.AddCommand(controllerCommand(), proxyCommand(), nodeCommand(), rewriteCommand(), tokenCommand(), revokeCommand())
	return c
}

// logTo makes the libraries log as Berth does.
func logTo(handler slog.Handler) {
	slog.SetDefault(slog.New(handler))
	ctrl.SetLogger(logr.FromSlogHandler(handler))
	klog.SetSlogLogger(slog.New(handler))
}

// run is the shape of a subcommand that runs until the context ends.
func run(what func(context.Context) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error { return what(c.Context()) }
}
