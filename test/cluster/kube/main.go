// Command hyper is etcd, the Kubernetes control plane, the parts of a node and
// kubectl in one binary. It runs as the one that its name says, as busybox
// does: the build links it under each of the names below.
//
// One binary links the shared packages once, 144 MB instead of 600. The module
// is apart from the cluster's own because k8s.io/kubernetes can only be
// imported with a replace directive for each of its staging modules.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go's metrics in /metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // the version in /metrics
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlerrors "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	name := filepath.Base(os.Args[0])
	if name == "hyper" && len(os.Args) > 1 {
		name = os.Args[1]
		os.Args = os.Args[1:]
	}
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kubectl":
		runKubectl()
	default:
		os.Exit(cli.Run(component(name)))
	}
}

// component returns the command of a Kubernetes component and ends the program
// if there is none of that name.
func component(name string) *cobra.Command {
	switch name {
	case "kube-apiserver":
		return apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		return controllermanager.NewControllerManagerCommand()
	case "kube-scheduler":
		return scheduler.NewSchedulerCommand()
	case "kube-proxy":
		return proxy.NewProxyCommand()
	case "kubelet":
		return kubelet.NewKubeletCommand(context.Background())
	}
	fmt.Fprintf(os.Stderr, "hyper: no component '%s': call it as etcd, kube-apiserver, kube-controller-manager, "+
		"kube-scheduler, kube-proxy, kubelet or kubectl\n", name)
	os.Exit(2)
	return nil
}

// runKubectl reports errors as kubectl itself does: by kind, with its own exit
// statuses.
func runKubectl() {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlerrors.CheckErr(err)
	}
}
