package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/test/lab"
)

// TestProxyKilled: the proxies are killed in the middle of a pull of 500 MiB, and the Pod still becomes Ready.
func TestProxyKilled(t *testing.T) {
	w := enter(t)
	image := w.push("500MiB")
	n := w.shop("kill")
	offset := len(w.harborLog())
	p := pod(n.Name, image)
	w.create(p)
	// The layer is on its way once upstream's log, which is written when a
	// request ends, shows the manifest and containerd's folder grows.
	w.ok(lab.Wait(w.ctx, patience, "the pull to begin", func(context.Context) (bool, error) {
		return strings.Contains(w.harborLog()[offset:], "/manifests/") && ingesting() > 20<<20, nil
	}))
	killed := killAll(t, "/berth", "proxy")
	t.Logf("killed %d processes of the proxy with %d MiB of the layer there", killed, ingesting()>>20)
	if killed == 0 {
		t.Fatal("no process of the proxy was found")
	}
	w.running(p, 3*time.Minute)
}

func (w world) harborLog() string {
	w.Helper()
	text, err := w.HarborLog()
	w.ok(err)
	return text
}

// ingesting returns how many bytes containerd is fetching.
func ingesting() (total int64) {
	for _, root := range []string{"/var/lib/containerd", "/run/containerd"} {
		files, _ := filepath.Glob(root + "/io.containerd.content.v1.content/ingest/*/data")
		for _, f := range files {
			if s, err := os.Stat(f); err == nil {
				total += s.Size()
			}
		}
	}
	return total
}

// killAll kills each process whose command line begins so. The test runs in the
// node's PID namespace, so that these are processes of the cluster.
func killAll(t *testing.T, command ...string) (killed int) {
	t.Helper()
	want := strings.Join(command, "\x00") + "\x00"
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range lines {
		text, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(text)+"\x00", want) {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(file, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
			killed++
		}
	}
	return killed
}

// TestWebhookPodsDeleted: they come back, and Pods are rewritten again, without anyone's hand.
func TestWebhookPodsDeleted(t *testing.T) {
	w := enter(t)
	image := w.push("1MiB")
	n := w.shop("webhook")
	w.ok(w.Client.DeleteAllOf(w.ctx, &corev1.Pod{}, client.InNamespace(v1alpha1.SystemNamespace),
		client.MatchingLabels{"app.kubernetes.io/name": "berth-controller"}, client.GracePeriodSeconds(0)))
	start := time.Now()
	w.ok(w.Apply(w.ctx, n.Name, deployment("next", image)))
	w.ok(w.Available(w.ctx, n.Name, "next", 2*time.Minute))
	t.Logf("Available %.1f s after the webhook's Pods were deleted", time.Since(start).Seconds())
	pods, err := w.Pods(w.ctx, n.Name)
	w.ok(err)
	for _, p := range pods {
		if got := p.Spec.Containers[0].Image; !strings.Contains(got, "/connectors/harbor/") {
			t.Errorf("a Pod was admitted with image '%s'", got)
		}
	}
	w.ok(w.Available(w.ctx, v1alpha1.SystemNamespace, "berth-controller", patience))
}

// TestUpstreamLog: all content went through the proxy, as the credential's user; the node got only 401.
func TestUpstreamLog(t *testing.T) {
	w := enter(t)
	credential, err := w.Credential()
	w.ok(err)
	n, plain := w.shop("log"), w.namespace("plain")
	image := w.push("1MiB")
	pushed := len(w.harborLog())
	p := pod(n.Name, image)
	w.create(p)
	w.running(p, patience)
	refused := pod(plain.Name, image)
	w.create(refused)
	_, err = w.EventLike(w.ctx, plain.Name, "Failed", "authorization failed", patience)
	w.ok(err)
	proxies := w.proxyAddresses()
	served, unauthorized := 0, 0
	for _, r := range w.requests(w.harborLog()[pushed:]) {
		switch {
		case proxies[r.from]:
			if r.status < 300 && r.user != credential.Username {
				t.Errorf("the proxy was answered as '%s': %+v", r.user, r)
			}
			served++
		case r.status != 401:
			t.Errorf("not the proxy, and not refused: %+v", r)
		default:
			unauthorized++
		}
	}
	t.Logf("%d requests of the proxy, %d of the node, all 401", served, unauthorized)
	if served == 0 || unauthorized == 0 {
		t.Error("the log shows not both")
	}
}

func (w world) pushed() string {
	w.Helper()
	return strings.TrimPrefix(w.push("1MiB"), "harbor.example.com/")
}

func (w world) proxyAddresses() map[string]bool {
	w.Helper()
	var list corev1.PodList
	w.ok(w.Client.List(w.ctx, &list, client.InNamespace(v1alpha1.SystemNamespace), client.MatchingLabels{"app.kubernetes.io/name": "berth-proxy"}))
	addresses := map[string]bool{}
	for _, p := range list.Items {
		addresses[p.Status.PodIP] = true
	}
	return addresses
}
