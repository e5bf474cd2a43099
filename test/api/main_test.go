// Package api holds the tests of what Berth is to the API server: a real
// kube-apiserver with a real etcd, on loopback, as any user, and the real
// `berth controller` as a process of its own, with the token of its
// ServiceAccount and nothing else. The manifests are the shipped ones, applied
// by the real kubectl as the documentation says.
//
// One thing stands in for the network of a cluster: the API server reaches
// Services through the front (an HTTP CONNECT proxy, which is a setting of the
// API server), and the front leads to the process. So the webhook is called by
// its Service's name, over its own certificate, and no manifest is changed.
//
// What is not here: kubelet, schedulers and the controllers of Kubernetes. The
// tests on a whole cluster are in test/e2e.
package api_test

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// What `make test-api` sets.
const (
	// built says where the programs of Kubernetes are.
	built = "BERTH_KUBERNETES"
	// command is the program that people run, without the race detector, which takes a second to start it.
	command = "BERTH_PROGRAM"
)

//nolint:gochecknoglobals // the control plane that all tests share; nil where there is none
var shared *plane

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (status int) {
	programs := os.Getenv(built)
	if programs == "" {
		fmt.Fprintln(os.Stderr, "SKIPPED: the tests against a real API server need its programs; run: make test-api")
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "berth-api-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	shared, err = startPlane(context.Background(), dir, programs)
	defer func() {
		if err := shared.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}()
	if err != nil {
		fmt.Fprintf(os.Stderr, "start what is tested: %v\n%s", err, shared.tails())
		return 1
	}
	if status = m.Run(); status != 0 {
		fmt.Fprint(os.Stderr, shared.tails())
	}
	return status
}
