package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"berth.dev/berth/test/cluster/layout"
	"berth.dev/berth/test/cluster/supervise"
)

// Ready is the line by which Main says that the cluster is up.
const Ready = "ready"

// Descriptors that Main finds open.
const (
	progressFD = 3 // lines about how the start goes, then Ready
	lockFD     = 4 // held for as long as the node lives
)

// node is the state of the process.
type node struct {
	setup    Setup
	family   *supervise.Family
	children map[string]*supervise.Child
	probe    *probe
	say      io.Writer
	begun    time.Time
}

// Main is the life of the first process in the namespaces. It reads a Setup
// from standard input, which comes when the caller has recorded the process,
// and returns only if the cluster could not start, or the caller ended before.
func Main(ctx context.Context) error {
	for _, fd := range []int{progressFD, lockFD} {
		unix.CloseOnExec(fd)
	}
	progress := os.NewFile(progressFD, "progress")
	var setup Setup
	input := json.NewDecoder(os.Stdin)
	if err := input.Decode(&setup); err != nil {
		return fmt.Errorf("reading what to start: %w; this command is for `cluster up` alone", err)
	}
	if os.Getpid() != 1 {
		return fmt.Errorf("process %d is not the first of its namespaces: this command is for `cluster up` alone", os.Getpid())
	}
	n := &node{setup: setup, children: map[string]*supervise.Child{}, say: progress, begun: time.Now()}
	starting, cancel := context.WithCancelCause(ctx)
	go func() {
		_, err := input.Token() // ends when the caller does, or is content
		cancel(fmt.Errorf("`cluster up` has ended: %w", err))
	}()
	if err := n.start(starting); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(progress, Ready); err != nil {
		return fmt.Errorf("telling that the cluster is ready: %w", err)
	}
	progress.Close()
	select {} // until killed; the kernel then ends all that lives here
}

// start brings everything up. Any failure ends the process, and with it what
// it had started; so does the end of who waits for progress.
func (n *node) start(ctx context.Context) error {
	if err := unix.Sethostname([]byte(layout.NodeName)); err != nil {
		return fmt.Errorf("naming the node: %w", err)
	}
	if err := mountAll(n.setup.State); err != nil {
		return err
	}
	if err := connect(ctx); err != nil {
		return err
	}
	probe, err := newProbe(n.setup.State)
	if err != nil {
		return err
	}
	n.probe, n.family = probe, supervise.NewFamily()
	if err := n.serveControl(); err != nil {
		return err
	}
	for _, stage := range []func(context.Context) error{n.startControlPlane, n.startNode, n.awaitAll} {
		if err := stage(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) startControlPlane(ctx context.Context) error {
	if err := n.launch("etcd", "containerd", Harbor, "kube-apiserver"); err != nil {
		return err
	}
	return n.await(ctx, "kube-apiserver", n.probe.answers(layout.APIServer+"/readyz", http.StatusOK))
}

// startNode loads the pause image before kubelet can want it.
func (n *node) startNode(ctx context.Context) error {
	if err := n.launch("kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns"); err != nil {
		return err
	}
	if err := n.await(ctx, "containerd", listens(layout.ContainerdSock)); err != nil {
		return err
	}
	if err := n.loadPause(ctx); err != nil {
		return err
	}
	return n.launch("kubelet")
}

func (n *node) awaitAll(ctx context.Context) error {
	if err := n.await(ctx, Harbor, n.probe.answers("https://"+layout.HarborName+"/v2/", http.StatusUnauthorized)); err != nil {
		return err
	}
	account := layout.APIServer + "/api/v1/namespaces/default/serviceaccounts/default"
	if err := n.await(ctx, "kube-controller-manager", n.probe.answers(account, http.StatusOK)); err != nil {
		return err
	}
	if err := n.await(ctx, "coredns", n.probe.answers("http://127.0.0.1:8181/ready", http.StatusOK)); err != nil {
		return err
	}
	if err := n.await(ctx, "kube-proxy", n.probe.answers("http://127.0.0.1:10256/healthz", http.StatusOK)); err != nil {
		return err
	}
	return n.await(ctx, "kubelet", n.probe.nodeReady)
}

func (n *node) launch(names ...string) error {
	for _, name := range names {
		child, err := n.family.Start(n.setup.spec(name))
		if err != nil {
			return err
		}
		n.children[name] = child
	}
	return nil
}

func (n *node) await(ctx context.Context, name string, condition func(context.Context) error) error {
	if err := await(ctx, n.children[name], name, condition); err != nil {
		return fmt.Errorf("%w; see `cluster logs %s`", err, name)
	}
	_, err := fmt.Fprintf(n.say, "%4.1fs %s is ready\n", time.Since(n.begun).Seconds(), name)
	return err
}

// loadPause gives containerd the image of the sandboxes.
func (n *node) loadPause(ctx context.Context) error {
	spec := n.setup.spec("containerd")
	spec.Name, spec.Path, spec.Log = "load-pause", n.setup.Installed.Program("ctr", "ctr"), n.setup.State.Log("load-pause")
	spec.Args = []string{"--namespace", "k8s.io", "images", "import", n.setup.State.Path("pause.tar")}
	child, err := n.family.Start(spec)
	if err != nil {
		return err
	}
	select {
	case <-child.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !child.Succeeded() {
		return fmt.Errorf("loading the image '%s': it %s; see `cluster logs load-pause`", layout.PauseImage, child.Ended())
	}
	return nil
}
