package csi_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/csi"
)

func system(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: name}
}

func service(addresses ...string) *corev1.Service {
	return &corev1.Service{ObjectMeta: system(v1alpha1.ProxyService), Spec: corev1.ServiceSpec{
		ClusterIPs: addresses,
		Ports:      []corev1.ServicePort{{Name: "metrics", Port: 8080}, {Name: v1alpha1.ProxyPort, Port: 443}},
	}}
}

func authority() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: system(v1alpha1.ProxyCA), Data: map[string]string{v1alpha1.CACertKey: "ca"}}
}

func harbor() *v1alpha1.Connector {
	return &v1alpha1.Connector{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "harbor"}}
}

// self is the Node on which the test runs.
func self(taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "one", Annotations: map[string]string{"theirs": "kept"}},
		Spec:       corev1.NodeSpec{Taints: taints},
		Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{ContainerRuntimeVersion: "containerd://2.4.2"}},
	}
}

// cluster is a Node reconciler with an API that holds objects, and a machine of its own.
type cluster struct {
	csi.Node

	host    string
	client  client.Client
	patches int
}

func newCluster(t *testing.T, objects ...client.Object) *cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := &cluster{host: t.TempDir()}
	c.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(ctx context.Context, w client.WithWatch, o client.Object, p client.Patch, options ...client.PatchOption) error {
			c.patches++
			return w.Patch(ctx, o, p, options...)
		},
	}).Build()
	root, err := os.OpenRoot(c.host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	c.Node = csi.Node{
		Client: c.client, Name: "one", End: func(err error) { t.Errorf("it ends: %v", err) },
		Finder: &csi.Finder{Host: root, ClusterDomain: clusterDomain},
	}
	c.write(t, "/etc/containerd/config.toml", "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'\n")
	return c
}

// write writes a file of the machine.
func (c *cluster) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(c.host, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// report is what stands on the Node after a pass.
func (c *cluster) report(t *testing.T, what string) (*corev1.Node, v1alpha1.NodeReport, reconcile.Result) {
	t.Helper()
	result, err := c.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: what}})
	if err != nil {
		t.Fatal(err)
	}
	var node corev1.Node
	if err := c.client.Get(t.Context(), types.NamespacedName{Name: "one"}, &node); err != nil {
		t.Fatal(err)
	}
	var report v1alpha1.NodeReport
	if err := json.Unmarshal([]byte(node.Annotations[v1alpha1.AnnotationNode]), &report); err != nil {
		t.Fatal(err)
	}
	return &node, report, result
}

func (c *cluster) has(name string) bool {
	_, err := os.Lstat(filepath.Join(c.host, name))
	return err == nil
}

func TestNode(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cluster []client.Object
		reason  string
		says    string
	}{
		"all there":         {[]client.Object{service("10.96.7.7"), authority(), harbor()}, v1alpha1.NodeReasonReady, ""},
		"no Service yet":    {[]client.Object{authority(), harbor()}, v1alpha1.NodeReasonProxyPending, "wait for"},
		"no authority yet":  {[]client.Object{service("10.96.7.7"), harbor()}, v1alpha1.NodeReasonProxyPending, "wait for"},
		"headless Service":  {[]client.Object{service("None"), authority(), harbor()}, v1alpha1.NodeReasonProxyPending, "may not be headless"},
		"no Connectors yet": {[]client.Object{service("10.96.7.7"), authority()}, v1alpha1.NodeReasonReady, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newCluster(t, append(tc.cluster, self())...)
			_, got, _ := n.report(t, "look")
			ready := tc.reason == v1alpha1.NodeReasonReady
			if got.Reason != tc.reason || got.Ready != ready || n.Synced() != ready || !strings.Contains(got.Message, tc.says) || len(got.Message) > 0 == ready {
				t.Errorf("%+v, Synced %t", got, n.Synced())
			}
			if got, want := n.has("/etc/containerd/certs.d/"+host("demo", "harbor")+"/hosts.toml"), ready && len(tc.cluster) == 3; got != want {
				t.Errorf("hosts.toml is there: %t, want %t", got, want)
			}
		})
	}
}

// TestNodeReports: what is wrong with a node stands on it, with what to do; once it is put right, that it is.
func TestNodeReports(t *testing.T) {
	t.Parallel()
	containerd := func(version string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Status.NodeInfo.ContainerRuntimeVersion = version }
	}
	for name, tc := range map[string]struct {
		node   func(*corev1.Node)
		make   func(*testing.T, *cluster)
		reason string
		says   string
	}{
		"runtime": {containerd("magic://1"), nil, v1alpha1.NodeReasonRuntimeUnsupported, "'magic://1'"},
		"no TOML": {nil, func(t *testing.T, c *cluster) {
			t.Helper()
			c.write(t, "/etc/containerd/config.toml", "version = 3\npassword = hunter2\n")
		}, v1alpha1.NodeReasonConfigInvalid, "line 2, column 12"},
		"no config_path": {containerd("containerd://1.7.29"), func(t *testing.T, c *cluster) {
			t.Helper()
			c.write(t, "/etc/containerd/config.toml", "version = 2\n")
		}, v1alpha1.NodeReasonConfigPathMissing, "`[plugins.\"io.containerd.grpc.v1.cri\".registry]`"},
		"several": {nil, func(t *testing.T, c *cluster) {
			t.Helper()
			c.write(t, "/etc/containerd/config.toml", "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d:/etc/docker/certs.d'\n")
		}, v1alpha1.NodeReasonConfigPathSeveral, "2 folders"},
		"k3s, not mounted": {containerd("containerd://2.1.4-k3s1"), nil, v1alpha1.NodeReasonFolderUnavailable, "/var/lib/rancher/k3s/agent/etc/containerd"},
		"folder":           {nil, func(t *testing.T, c *cluster) { t.Helper(); c.write(t, "/etc/containerd/certs.d", "") }, v1alpha1.NodeReasonFolderUnavailable, "must be mounted"},
		"foreign": {nil, func(t *testing.T, c *cluster) {
			t.Helper()
			c.write(t, "/etc/containerd/certs.d/"+host("demo", "harbor")+"/hosts.toml", "mine")
		}, v1alpha1.NodeReasonForeignFiles, "not written by Berth"},
		"CRI-O, not mounted":  {containerd("cri-o://1.36.0"), nil, v1alpha1.NodeReasonFolderUnavailable, "'/etc/hosts'"},
		"Docker, not mounted": {containerd("docker://29.1.0"), nil, v1alpha1.NodeReasonFolderUnavailable, "'/etc/hosts'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := self(corev1.Taint{Key: v1alpha1.TaintNotReady, Effect: corev1.TaintEffectNoSchedule})
			if tc.node != nil {
				tc.node(node)
			}
			n := newCluster(t, service("10.96.7.7"), authority(), harbor(), node)
			if tc.make != nil {
				tc.make(t, n)
			}
			now, got, result := n.report(t, "look")
			if got.Ready || got.Reason != tc.reason || !strings.Contains(got.Message, tc.says) || strings.Contains(got.Message, "hunter2") || n.Synced() {
				t.Errorf("%+v", got)
			}
			if len(now.Spec.Taints) != 1 || result.RequeueAfter == 0 {
				t.Errorf("taints %v, again in %s", now.Spec.Taints, result.RequeueAfter)
			}
			n.report(t, "change")
			if n.patches != 1 {
				t.Errorf("%d patches for one report", n.patches)
			}
		})
	}
}

// TestNodeRecovers: what was wrong is put right on the machine, and the next pass finds it.
func TestNodeRecovers(t *testing.T) {
	t.Parallel()
	n := newCluster(t, service("10.96.7.7"), authority(), harbor(), self())
	n.write(t, "/etc/containerd/config.toml", "[")
	if _, got, _ := n.report(t, "change"); got.Reason != v1alpha1.NodeReasonConfigInvalid {
		t.Errorf("%+v", got)
	}
	n.write(t, "/etc/containerd/config.toml", "[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/etc/containerd/other'\n")
	if _, got, _ := n.report(t, "change"); !got.Ready || got.Path != "/etc/containerd/other" {
		t.Errorf("%+v", got)
	}
	// A look finds what nothing in the cluster tells of.
	for _, gone := range []string{"/etc/containerd/other/" + host("demo", "harbor"), "/etc/containerd/other"} {
		if err := os.RemoveAll(filepath.Join(n.host, gone)); err != nil {
			t.Fatal(err)
		}
		if _, got, result := n.report(t, "look"); !got.Ready || result.RequeueAfter == 0 || !n.has("/etc/containerd/other/"+host("demo", "harbor")+"/hosts.toml") {
			t.Errorf("%+v, again in %s", got, result.RequeueAfter)
		}
	}
}

// TestNodeTaint: the startup taint is taken off when the files stand and kubelet has the driver, and no other is.
func TestNodeTaint(t *testing.T) {
	t.Parallel()
	theirs := corev1.Taint{Key: "theirs", Effect: corev1.TaintEffectNoSchedule}
	n := newCluster(t, service("10.96.7.7"), authority(), harbor(), self(
		corev1.Taint{Key: v1alpha1.TaintNotReady, Effect: corev1.TaintEffectNoExecute}, theirs,
		corev1.Taint{Key: v1alpha1.TaintNotReady, Effect: corev1.TaintEffectNoSchedule},
	))
	registered := false
	n.Driver = func() bool { return registered }
	node, got, result := n.report(t, "look")
	if got.Reason != v1alpha1.NodeReasonDriverPending || len(node.Spec.Taints) != 3 || result.RequeueAfter == 0 || !n.Synced() {
		t.Errorf("%+v, taints %v, again in %s", got, node.Spec.Taints, result.RequeueAfter)
	}
	registered = true
	node, got, _ = n.report(t, "look")
	if diff := cmp.Diff([]corev1.Taint{theirs}, node.Spec.Taints); diff != "" || !got.Ready || node.Annotations["theirs"] != "kept" {
		t.Errorf("%+v, taints (-want +got):\n%s", got, diff)
	}
	n.report(t, "change")
	n.report(t, "look")
	if n.patches != 2 {
		t.Errorf("%d patches for two reports", n.patches)
	}
}
