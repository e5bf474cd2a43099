package api_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

// TestComponents: each component for nodes of another kind is taken by the API server, mounts no more than it says, and each where `berth node` looks.
func TestComponents(t *testing.T) {
	w := enter(t)
	manifests, err := filepath.Abs("../../manifests")
	w.ok(err)
	base := []string{
		"/etc/containerd", "/etc/containerd/certs.d", "/var/lib/kubelet/pods",
		"/var/lib/kubelet/plugins/csi.connectors.berth.dev", "/var/lib/kubelet/plugins_registry",
	}
	for name, more := range map[string][]string{
		"k3s":    {"/var/lib/rancher/k3s/agent/etc/containerd", "/var/lib/rancher/k3s/agent/etc/containerd/certs.d"},
		"rke2":   {"/var/lib/rancher/rke2/agent/etc/containerd", "/var/lib/rancher/rke2/agent/etc/containerd/certs.d"},
		"crio":   {"/etc/containers/certs.d", "/etc/containers/registries.conf.d", "/etc/hosts"},
		"docker": {"/etc/docker/certs.d", "/etc/hosts"},
	} {
		t.Run(name, func(t *testing.T) {
			w := world{plane: w.plane, T: t, ctx: t.Context()}
			dir, err := filepath.EvalSymlinks(t.TempDir())
			w.ok(err)
			relative, err := filepath.Rel(dir, manifests)
			w.ok(err)
			w.ok(os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(
				"resources: ["+relative+"/base]\ncomponents: ["+relative+"/components/"+name+"]\n"), 0o600))
			if out := w.kubectl(w.ctx, "", "apply", "--server-side", "--dry-run=server", "-k", dir); out.status != 0 {
				t.Fatal(out.stderr)
			}
			out := w.kubectl(w.ctx, "", "kustomize", dir)
			var set appsv1.DaemonSet
			for manifest := range strings.SplitSeq(out.stdout, "\n---\n") {
				if strings.Contains(manifest, "\nkind: DaemonSet\n") {
					w.ok(yaml.UnmarshalStrict([]byte(manifest), &set))
				}
			}
			pod := set.Spec.Template.Spec
			folders := map[string]string{}
			for _, v := range pod.Volumes {
				folders[v.Name] = v.HostPath.Path
			}
			var mounted []string
			for _, m := range pod.Containers[0].VolumeMounts {
				mounted = append(mounted, folders[m.Name])
				if path := strings.TrimPrefix(m.MountPath, "/host"); path != folders[m.Name] {
					t.Errorf("'%s' is mounted at '%s'", folders[m.Name], m.MountPath)
				}
				if configuration := strings.HasSuffix(m.MountPath, "/containerd"); m.ReadOnly != configuration {
					t.Errorf("'%s' is read-only: %t", m.MountPath, m.ReadOnly)
				}
			}
			w.equal("what is mounted", mounted, append(slices.Clip(base), more...))
		})
	}
}
