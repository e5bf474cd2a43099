package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
	"berth.dev/berth/test/lab"
)

// certsDir is containerd's `config_path` on the node.
const certsDir = "/etc/containerd/certs.d"

// node is the only one.
func (w world) node() *corev1.Node {
	w.Helper()
	var list corev1.NodeList
	w.ok(w.Client.List(w.ctx, &list))
	if len(list.Items) != 1 {
		w.Fatalf("%d nodes", len(list.Items))
	}
	return &list.Items[0]
}

// reported waits for the node to report a reason.
func (w world) reported(reason string) v1alpha1.NodeReport {
	w.Helper()
	var report v1alpha1.NodeReport
	w.ok(lab.Wait(w.ctx, patience, "the node to report '"+reason+"'", func(context.Context) (bool, error) {
		text := w.node().Annotations[v1alpha1.AnnotationNode]
		report = v1alpha1.NodeReport{}
		if err := json.Unmarshal([]byte(text), &report); err != nil {
			return false, fmt.Errorf("'%s': %w", text, err)
		}
		if report.Reason != reason {
			return false, fmt.Errorf("it reports %+v", report)
		}
		return true, nil
	}))
	return report
}

// TestNodeReports: what stands on the node is said on it, leads to the proxy alone, over TLS that is verified, and a Pod is pulled by it.
func TestNodeReports(t *testing.T) {
	w := enter(t)
	report := w.reported(v1alpha1.NodeReasonReady)
	if !report.Ready || report.Path != certsDir || !strings.HasPrefix(report.Runtime, "containerd://") || report.Message != "" {
		t.Errorf("the node reports %+v", report)
	}
	n := w.shop("node")
	p := pod(n.Name, w.push("1MiB"))
	w.create(p)
	w.running(p, patience)
	w.noPullErrors(n.Name)
	var service corev1.Service
	w.ok(w.Client.Get(w.ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyService}, &service))
	host := route.Connector{Namespace: v1alpha1.SystemNamespace, Name: "harbor"}.Host(v1alpha1.ClusterDomain)
	hosts, err := os.ReadFile(filepath.Join(certsDir, host, "hosts.toml"))
	w.ok(err)
	rest := strings.ReplaceAll(string(hosts), "https://"+service.Spec.ClusterIP+":443", "")
	if strings.Contains(rest, "://") || strings.Contains(rest, "skip_verify") || !strings.Contains(rest, `ca = "ca.crt"`) {
		t.Errorf("hosts.toml:\n%s", hosts)
	}
}

// TestStartupTaint: no Pod lands on a node where files are missing; once they stand, the taint is taken off and it runs.
func TestStartupTaint(t *testing.T) {
	w := enter(t)
	n := w.shop("taint")
	host := route.Connector{Namespace: n.Name, Name: "own"}.Host(v1alpha1.ClusterDomain)
	foreign := filepath.Join(certsDir, host)
	w.ok(os.MkdirAll(foreign, 0o755))
	w.ok(os.WriteFile(filepath.Join(foreign, "hosts.toml"), []byte("# mine\n"), 0o600))
	t.Cleanup(func() { _ = os.RemoveAll(foreign) })
	w.ok(w.Connect(w.ctx, lab.Connector{Namespace: n.Name, Name: "own"}))
	if report := w.reported(v1alpha1.NodeReasonForeignFiles); report.Ready || !strings.Contains(report.Message, foreign) {
		t.Errorf("the node reports %+v", report)
	}
	before := w.node()
	tainted := before.DeepCopy()
	tainted.Spec.Taints = append(tainted.Spec.Taints, corev1.Taint{Key: v1alpha1.TaintNotReady, Effect: corev1.TaintEffectNoSchedule})
	w.ok(w.Client.Patch(w.ctx, tainted, client.MergeFrom(before)))
	p := pod(n.Name, w.push("1MiB"))
	w.create(p)
	w.ok(lab.Wait(w.ctx, patience, "the Pod to wait for a node", func(ctx context.Context) (bool, error) {
		err := w.Client.Get(ctx, client.ObjectKeyFromObject(p), p)
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable && strings.Contains(c.Message, "taint") {
				return true, nil
			}
		}
		return false, err
	}))
	w.ok(os.RemoveAll(foreign))
	w.reported(v1alpha1.NodeReasonReady)
	w.running(p, patience)
	for _, taint := range w.node().Spec.Taints {
		if taint.Key == v1alpha1.TaintNotReady {
			t.Error("the taint is still there")
		}
	}
}

// TestNodePluginKilled: a Connector that comes while the plugin is away has its files when it is back, and a Pod pulls through it.
func TestNodePluginKilled(t *testing.T) {
	w := enter(t)
	image := w.push("1MiB")
	n := w.shop("killed")
	if killed := killAll(t, "/berth", "node"); killed != 1 {
		t.Fatalf("killed %d processes", killed)
	}
	w.ok(w.Connect(w.ctx, lab.Connector{Namespace: n.Name, Name: "own"}))
	host := route.Connector{Namespace: n.Name, Name: "own"}.Host(v1alpha1.ClusterDomain)
	w.ok(lab.Wait(w.ctx, patience, "hosts.toml of '"+host+"'", func(context.Context) (bool, error) {
		_, err := os.Stat(filepath.Join(certsDir, host, "hosts.toml"))
		return err == nil, err
	}))
	p := withFiles(pod(n.Name, image), v1alpha1.VolumeConnectors, "own")
	w.create(p)
	w.running(p, patience)
	w.noPullErrors(n.Name)
	if !strings.Contains(p.Spec.Containers[0].Image, "/connectors/own/") {
		t.Errorf("the image is '%s'", p.Spec.Containers[0].Image)
	}
}

// TestKubeletRestarted: running Pods keep their files, and new ones publish and pull.
func TestKubeletRestarted(t *testing.T) {
	w := enter(t)
	image := w.push("1MiB")
	n := w.shop("kubelet")
	before := withFiles(pod(n.Name, image), v1alpha1.VolumeConnectors, "berth-system/harbor")
	w.create(before)
	w.running(before, patience)
	started := before.Status.ContainerStatuses[0].ContainerID
	w.ok(w.Restart(w.ctx, "kubelet"))
	token := filepath.Join("/var/lib/kubelet/pods", string(before.UID), "volumes/kubernetes.io~csi/files/mount", v1alpha1.FileToken)
	if content, err := os.ReadFile(token); err != nil || len(content) == 0 {
		t.Errorf("the files of a running Pod: %d bytes, %v", len(content), err)
	}
	after := withFiles(pod(n.Name, w.push("1MiB")), v1alpha1.VolumeConnectors, "berth-system/harbor")
	after.Name = "after"
	w.create(after)
	w.running(after, patience)
	w.noPullErrors(n.Name)
	w.running(before, patience)
	if now := before.Status.ContainerStatuses[0].ContainerID; now != started {
		t.Errorf("the running container '%s' was replaced by '%s'", started, now)
	}
	if content, err := os.ReadFile(token); err != nil || len(content) == 0 {
		t.Errorf("the files of a running Pod, later: %d bytes, %v", len(content), err)
	}
	w.reported(v1alpha1.NodeReasonReady)
}
