package e2e_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
	"berth.dev/berth/test/lab"
)

// withFiles gives a Pod the CSI volume, with the attributes as name, value, name, value.
func withFiles(p *corev1.Pod, attributes ...string) *corev1.Pod {
	readOnly := true
	v := corev1.Volume{Name: "files", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
		Driver: v1alpha1.CSIDriver, ReadOnly: &readOnly, VolumeAttributes: map[string]string{},
	}}}
	for i := 0; i+1 < len(attributes); i += 2 {
		v.CSI.VolumeAttributes[attributes[i]] = attributes[i+1]
	}
	p.Spec.Volumes = append(p.Spec.Volumes, v)
	c := &p.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: v.Name, MountPath: v1alpha1.DefaultMountPath, ReadOnly: true})
	return p
}

// restricted makes a Pod one that the restricted Pod Security profile admits, of a user that owns nothing.
func restricted(p *corev1.Pod, group *int64) *corev1.Pod {
	user, yes, no := int64(12345), true, false
	p.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsUser: &user, RunAsGroup: &user, RunAsNonRoot: &yes, FSGroup: group, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
	return p
}

// output is what a Pod that ends has printed.
func (w world) output(p *corev1.Pod) string {
	w.Helper()
	w.finished(p, patience)
	return w.log(p)
}

// finished waits until a Pod has ended well.
func (w world) finished(p *corev1.Pod, limit time.Duration) {
	w.Helper()
	w.ok(lab.Wait(w.ctx, limit, "Pod '"+p.Name+"' to succeed", func(ctx context.Context) (bool, error) {
		if err := w.Client.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
			return false, err
		}
		if p.Status.Phase == corev1.PodFailed {
			w.Fatalf("the Pod failed:\n%s", w.log(p))
		}
		return p.Status.Phase == corev1.PodSucceeded, waiting(p)
	}))
}

// log is what a Pod has printed.
func (w world) log(p *corev1.Pod) string {
	w.Helper()
	log, err := w.Clientset.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{}).Stream(w.ctx)
	w.ok(err)
	defer log.Close()
	text, err := io.ReadAll(log)
	w.ok(err)
	return string(text)
}

// TestFiles: a Pod of the restricted profile reads its files, with an fsGroup and without, and what is in them opens the Connector.
func TestFiles(t *testing.T) {
	w := enter(t)
	image := w.push("1MiB")
	group := int64(5000)
	for name, fsGroup := range map[string]*int64{"with a group": &group, "without": nil} {
		t.Run(name, func(t *testing.T) {
			w := world{Lab: w.Lab, T: t, ctx: t.Context()}
			n := w.namespace("files", v1alpha1.LabelInject, v1alpha1.InjectEnabled, "team", "shop", "pod-security.kubernetes.io/enforce", "restricted")
			p := restricted(withFiles(pod(n.Name, image), v1alpha1.VolumeConnectors, "berth-system/harbor", v1alpha1.VolumeConfigurations, "registry-config,buildkitd"), fsGroup)
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			args := []string{"files"}
			for _, file := range []string{"config.json", "buildkitd.toml", v1alpha1.FileCA, v1alpha1.FileToken, v1alpha1.FileEnv} {
				args = append(args, v1alpha1.DefaultMountPath+"/"+file)
			}
			p.Spec.Containers[0].Args = args
			w.create(p)
			files := printed(t, w.output(p))
			w.opens(n.Name, files["config.json"], image)
			host := route.Connector{Namespace: v1alpha1.SystemNamespace, Name: "harbor"}.Host(v1alpha1.ClusterDomain)
			if want := `[registry."` + host + `"]`; !strings.Contains(files["buildkitd.toml"], want) {
				t.Errorf("buildkitd.toml lacks '%s':\n%s", want, files["buildkitd.toml"])
			}
			if !strings.Contains(files[v1alpha1.FileCA], "BEGIN CERTIFICATE") {
				t.Errorf("ca.crt: %s", files[v1alpha1.FileCA])
			}
		})
	}
}

// printed reads what `testapp files` prints.
func printed(t *testing.T, output string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for line := range strings.Lines(output) {
		path, quoted, ok := strings.Cut(strings.TrimSpace(line), ": ")
		var content string
		if _, err := fmt.Sscanf(quoted, "%q", &content); !ok || err != nil {
			t.Fatalf("the Pod prints: %s", line)
		}
		files[filepath.Base(path)] = content
	}
	return files
}

// opens fails unless a config.json signs in to the Connector, and pulls the image.
func (w world) opens(namespace, config, image string) {
	w.Helper()
	var parsed struct {
		Auths map[string]struct {
			Auth string `json:"auth"`
		} `json:"auths"`
	}
	w.ok(json.Unmarshal([]byte(config), &parsed))
	if len(parsed.Auths) != 1 {
		w.Fatalf("config.json has %d entries", len(parsed.Auths))
	}
	for _, entry := range parsed.Auths {
		plain, err := base64.StdEncoding.DecodeString(entry.Auth)
		w.ok(err)
		_, token, _ := strings.Cut(string(plain), ":")
		name, tag, _ := strings.Cut(strings.TrimPrefix(image, "harbor.example.com/"), ":")
		status, body, err := w.AskProxyWith(w.ctx, token, "GET", connectorPath(name+"/manifests/"+tag))
		w.ok(err)
		if status != 200 {
			w.Errorf("namespace '%s' is answered %d: %s", namespace, status, body)
		}
	}
}

// TestFilesRefused: a Pod that asks for what is not there waits, and its events say what to do; once corrected, it runs.
func TestFilesRefused(t *testing.T) {
	w := enter(t)
	image := w.push("1MiB")
	for name, tc := range map[string]struct {
		readOnly   bool
		namespace  []string
		attributes []string
		says       string
	}{
		"configuration": {true, []string{"team", "shop"}, []string{v1alpha1.VolumeConnectors, "berth-system/harbor", v1alpha1.VolumeConfigurations, "nothing"}, "has a configuration 'nothing'"},
		"connector":     {true, []string{"team", "shop"}, []string{v1alpha1.VolumeConnectors, "nothing"}, "there is no Connector 'nothing'"},
		"access":        {true, nil, []string{v1alpha1.VolumeConnectors, "berth-system/harbor"}, "ask its owner"},
		"attribute":     {true, []string{"team", "shop"}, []string{"connector", "berth-system/harbor"}, "which is not known"},
		"writable":      {false, []string{"team", "shop"}, nil, "`pod.spec.volumes[].csi.readOnly` must be 'true'"},
	} {
		t.Run(name, func(t *testing.T) {
			w := world{Lab: w.Lab, T: t, ctx: t.Context()}
			n := w.namespace("refused", tc.namespace...)
			p := withFiles(pod(n.Name, image), tc.attributes...)
			p.Spec.Volumes[0].CSI.ReadOnly = &tc.readOnly
			w.create(p)
			_, err := w.EventLike(w.ctx, n.Name, "FailedMount", tc.says, patience)
			w.ok(err)
		})
	}
}

// TestFilesOutlive: the plugin is replaced; the files of running Pods stay, new Pods get theirs, and what ended leaves nothing.
func TestFilesOutlive(t *testing.T) {
	w := enter(t)
	image := w.push("1MiB")
	n := w.shop("outlive")
	before := withFiles(pod(n.Name, image), v1alpha1.VolumeConfigurations, "registry-config")
	w.create(before)
	w.running(before, patience)
	folder := func(p *corev1.Pod) string {
		return filepath.Join("/var/lib/kubelet/pods", string(p.UID), "volumes/kubernetes.io~csi/files/mount")
	}
	var plugins corev1.PodList
	w.ok(w.Client.List(w.ctx, &plugins, client.InNamespace(v1alpha1.SystemNamespace), client.MatchingLabels{"app.kubernetes.io/name": "berth-node"}))
	for i := range plugins.Items {
		w.ok(w.Client.Delete(w.ctx, &plugins.Items[i], client.GracePeriodSeconds(0)))
	}
	for _, name := range []string{"config.json", v1alpha1.FileToken} {
		if content, err := os.ReadFile(filepath.Join(folder(before), name)); err != nil || len(content) == 0 {
			t.Errorf("'%s' of a running Pod, while there is no plugin: %d bytes, %v", name, len(content), err)
		}
	}
	after := withFiles(pod(n.Name, image), v1alpha1.VolumeConfigurations, "registry-config")
	after.Name = "after"
	w.create(after)
	w.running(after, patience)
	for _, p := range []*corev1.Pod{before, after} {
		w.ok(w.Client.Delete(w.ctx, p))
		w.ok(lab.Wait(w.ctx, patience, "the volume of '"+p.Name+"' to be removed", func(context.Context) (bool, error) {
			_, err := os.Lstat(folder(p))
			return os.IsNotExist(err), nil
		}))
	}
	w.noMounts(string(before.UID), string(after.UID))
}

// noMounts waits until the node has no mount of these Pods: kubelet removes one after the other.
func (w world) noMounts(pods ...string) {
	w.Helper()
	for _, uid := range pods {
		w.ok(lab.Wait(w.ctx, patience, "the mounts of Pod '"+uid+"' to be gone", func(context.Context) (bool, error) {
			mounts, err := os.ReadFile("/proc/mounts")
			return !strings.Contains(string(mounts), uid), err
		}))
	}
}

// TestFilesRotate: while a reader reads all files all the time, they are published again, and are whole each time.
func TestFilesRotate(t *testing.T) {
	w := enter(t)
	n := w.shop("rotate-files")
	p := withFiles(pod(n.Name, w.push("1MiB")), v1alpha1.VolumeConnectors, "berth-system/harbor", v1alpha1.VolumeConfigurations, "registry-config")
	w.create(p)
	w.running(p, patience)
	folder := filepath.Join("/var/lib/kubelet/pods", string(p.UID), "volumes/kubernetes.io~csi/files/mount")
	generation, err := os.Readlink(filepath.Join(folder, "..data"))
	w.ok(err)
	// The class changes, and so do the files, at kubelet's next republish.
	var class v1alpha1.ConnectorClass
	w.ok(w.Client.Get(w.ctx, client.ObjectKey{Name: "oci"}, &class))
	original := class.DeepCopy()
	for i := range class.Spec.Configurations {
		if class.Spec.Configurations[i].Name == "registry-config" {
			class.Spec.Configurations[i].Files[0].Template += "\n"
		}
	}
	w.ok(w.Client.Update(w.ctx, &class))
	t.Cleanup(func() {
		original.ResourceVersion = class.ResourceVersion
		if err := w.Client.Update(context.WithoutCancel(w.ctx), original); err != nil {
			t.Error(err)
		}
	})
	deadline := time.Now().Add(3 * time.Minute)
	for turned := ""; turned == "" || turned == generation; {
		if time.Now().After(deadline) {
			t.Fatal("the files were not published again")
		}
		for _, name := range []string{"config.json", v1alpha1.FileToken, v1alpha1.FileBundle} {
			if content, err := os.ReadFile(filepath.Join(folder, name)); err != nil || len(content) == 0 {
				t.Fatalf("'%s': %d bytes, %v", name, len(content), err)
			}
		}
		turned, _ = os.Readlink(filepath.Join(folder, "..data"))
		time.Sleep(10 * time.Millisecond)
	}
}
