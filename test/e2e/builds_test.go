package e2e_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
	"berth.dev/berth/test/lab"
)

// builders is the image of test/builders.
const builders = "registry.test/builders:1"

// ofPipeline is the label by which Tekton's Pods are known.
const ofPipeline = "tekton.dev/taskRun"

// buildLimit is for a build in a Pod, the start of its tools included.
const buildLimit = 3 * time.Minute

// withBuilders loads the image of builders onto the node, where it is to be had.
func (w world) withBuilders() {
	w.Helper()
	tar := os.Getenv("BERTH_BUILDERS")
	if _, err := os.Stat(tar); err != nil {
		w.Skip("SKIPPED: there is no image of build tools: make builders, which needs mmdebstrap")
	}
	w.run("ctr", "--namespace", "k8s.io", "images", "import", tar)
}

// run runs a program on the node.
func (w world) run(program string, arguments ...string) string {
	w.Helper()
	output, err := exec.CommandContext(w.ctx, program, arguments...).CombinedOutput()
	if err != nil {
		w.Fatalf("%s: %v\n%s", program, err, output)
	}
	return string(output)
}

// workshop is a namespace with a Connector of its own, by which its Pods may pull and push.
func (w world) workshop(name string, labels ...string) (*corev1.Namespace, route.Connector) {
	w.Helper()
	n := w.namespace(name, labels...)
	c := route.Connector{Namespace: n.Name, Name: "harbor-connector"}
	w.ok(w.Connect(w.ctx, lab.Connector{Namespace: c.Namespace, Name: c.Name}))
	return n, c
}

// job is a Pod that runs a script among the builders.
func job(namespace, script string, environment ...corev1.EnvVar) *corev1.Pod {
	p := pod(namespace, builders)
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	c := &p.Spec.Containers[0]
	c.ImagePullPolicy, c.Command, c.Args, c.Env = corev1.PullIfNotPresent, []string{"sh", "-exuc", script}, nil, environment
	return p
}

// variable is one of a container's environment.
func variable(name, value string) corev1.EnvVar { return corev1.EnvVar{Name: name, Value: value} }

// built fails unless a Pod of the namespace runs the image and finds in it what the build put there.
func (w world) built(namespace, image, want string) {
	w.Helper()
	p := pod(namespace, image)
	p.Name = "built"
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Spec.Containers[0].Args = []string{"files", "/note"}
	w.create(p)
	if got := w.output(p); !strings.Contains(got, want) {
		w.Errorf("the image that was built has: %s", got)
	}
}

// What a build is made of: a base that is private, a file, and a program that runs.
const (
	dockerfile = `mkdir -p /tmp/src && cd /tmp/src && echo "$NOTE" >note
printf 'FROM %s\nCOPY note /note\nRUN ["/app", "echo", "it runs"]\n' "$FROM" >Dockerfile
`
	buildah = dockerfile + `buildah --storage-driver vfs bud --isolation chroot --tag "$TO" .
buildah --storage-driver vfs push "$TO"
`
	buildkit = dockerfile + `/buildkitd ${BUILDKITD_FLAGS-} --root /tmp/buildkit --addr unix:///tmp/buildkit.sock &
export BUILDKIT_HOST=unix:///tmp/buildkit.sock
until /buildctl debug workers >/dev/null 2>&1; do kill -0 $!; sleep 0.1; done
/buildctl build --progress plain --frontend dockerfile.v0 --local context=. --local dockerfile=. --output "type=image,name=$TO,push=true"
`
)

// TestBuilds: images are built FROM the private registry and pushed back to it, with TLS verified, and without
// a credential or a flag that would tell of the registry: by the mounted files alone, or through the proxy that
// Pods of pipelines are given.
func TestBuilds(t *testing.T) {
	parent := enter(t)
	parent.withBuilders()
	base := parent.push("1MiB")
	for name, tc := range map[string]struct {
		script      string
		privileged  bool
		labels      map[string]string
		annotations map[string]string
		// registry are the hosts of what is built upon, and of what is pushed to; empty: the Connector's.
		from, to string
	}{
		"buildkit, by files": {script: buildkit, privileged: true, annotations: map[string]string{v1alpha1.AnnotationConfigurations: "registry-config,buildkitd"}},
		"buildah, by files": {
			script: buildah, annotations: map[string]string{v1alpha1.AnnotationConfigurations: "registry-config,containers"}, from: registry,
		},
		"buildah, through the proxy":  {script: buildah, labels: map[string]string{ofPipeline: "build"}, from: registry, to: registry},
		"buildkit, through the proxy": {script: buildkit, privileged: true, labels: map[string]string{ofPipeline: "build"}, from: registry, to: registry},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world{Lab: parent.Lab, T: t, ctx: t.Context()}
			n, connector := w.workshop("build", v1alpha1.LabelInject, v1alpha1.InjectEnabled)
			at := func(host, image string) string {
				if host == "" {
					host = connector.Host(v1alpha1.ClusterDomain) + "/" + connector.Format()
				}
				return host + "/" + image
			}
			image, note := "test/"+rand.String(8)+":v1", rand.String(12)
			p := job(n.Name, tc.script, variable("FROM", at(tc.from, strings.TrimPrefix(base, registry+"/"))), variable("TO", at(tc.to, image)), variable("NOTE", note))
			p.Labels, p.Annotations = tc.labels, tc.annotations
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &tc.privileged}
			w.create(p)
			w.finished(p, buildLimit)
			w.built(n.Name, registry+"/"+image, note)
		})
	}
}

// TestPlainPodIsNotGivenTheProxy: what is no Pod of a pipeline, and does not ask, has neither the proxy nor files.
func TestPlainPodIsNotGivenTheProxy(t *testing.T) {
	w := enter(t)
	n := w.shop("plain")
	for name, tc := range map[string]struct {
		labels map[string]string
		want   bool
	}{"pipeline": {map[string]string{ofPipeline: "build"}, true}, "plain": {nil, false}} {
		p := pod(n.Name, "registry.test/pause:1")
		p.Name, p.Labels = name, tc.labels
		w.create(p)
		var variables []string
		for _, v := range p.Spec.Containers[0].Env {
			variables = append(variables, v.Name)
		}
		given := strings.Join(variables, " ")
		if strings.Contains(given, "HTTPS_PROXY") != tc.want || strings.Contains(given, "SSL_CERT_FILE") != tc.want {
			t.Errorf("%s: the variables are: %s", name, given)
		}
		files := false
		for _, v := range p.Spec.Volumes {
			files = files || v.CSI != nil && v.CSI.Driver == v1alpha1.CSIDriver
		}
		if files != tc.want {
			t.Errorf("%s: the CSI volume is there: %t", name, files)
		}
	}
}

// asDocumented is a Pod that mounts the files by hand and signs in by them, in a namespace that has not opted in.
func asDocumented(n *corev1.Namespace, script string, environment ...corev1.EnvVar) *corev1.Pod {
	folder := v1alpha1.DefaultMountPath
	return withFiles(job(n.Name, script, append(environment,
		variable("REGISTRY_AUTH_FILE", folder+"/config.json"), variable("SSL_CERT_FILE", folder+"/"+v1alpha1.FileBundle),
	)...), v1alpha1.VolumeConnectors, "harbor-connector", v1alpha1.VolumeConfigurations, "registry-config,buildkitd")
}

// TestConnectorAsDocumented: a Pod with the files uses the Connector by its name, over HTTPS, and the registry
// by its own name by what stands in `.env`.
func TestConnectorAsDocumented(t *testing.T) {
	w := enter(t)
	w.withBuilders()
	n, connector := w.workshop("documented")
	image := strings.TrimPrefix(w.push("1MiB"), registry+"/")
	at := connector.Host(v1alpha1.ClusterDomain) + "/" + connector.Format() + "/"
	if want := "c-harbor-connector." + n.Name + ".svc.cluster.local/namespaces/" + n.Name + "/connectors/harbor-connector/"; at != want {
		t.Fatalf("'%s' must be '%s'", at, want)
	}
	p := asDocumented(n, `skopeo copy "docker://$FROM" "docker://$TO"
test "$(skopeo inspect --format '{{.Digest}}' "docker://$FROM")" = "$(skopeo inspect --format '{{.Digest}}' "docker://$TO")"
skopeo copy "docker://$FROM" dir:/tmp/pulled
unset REGISTRY_AUTH_FILE
if skopeo inspect "docker://$FROM"; then exit 1; fi
set -a
. /run/connectors.berth.dev/.env
set +a
test "$(skopeo inspect --format '{{.Digest}}' "docker://$REGISTRY")" = "$(skopeo inspect --format '{{.Digest}}' "docker://$REGISTRY-copy")"
`, variable("FROM", at+image), variable("TO", at+image+"-copy"), variable("REGISTRY", registry+"/"+image))
	w.create(p)
	w.finished(p, patience)
}

// install has the proxy run as other manifests want it.
func (w world) install(manifests string) {
	w.Helper()
	w.run("kubectl", "apply", "--server-side", "-k", manifests)
	w.ok(w.proxiesReplaced(w.ctx))
}

// TestPlainHTTP: where the administrator turned it on, a Pod uses a Connector over plain HTTP; where not, nothing answers.
func TestPlainHTTP(t *testing.T) {
	w := enter(t)
	w.withBuilders()
	n, connector := w.workshop("plain-http")
	image := strings.TrimPrefix(w.push("1MiB"), registry+"/")
	host := connector.Host(v1alpha1.ClusterDomain)
	script := `skopeo inspect --creds "berth:$(cat /run/connectors.berth.dev/context.token)" --tls-verify=false "docker://$FROM"`
	from := variable("FROM", host+":80/"+connector.Format()+"/"+image)
	off := asDocumented(n, "! "+script, from)
	off.Name = "off"
	w.create(off)
	w.finished(off, patience)

	defer w.install("manifests/base")
	w.install("manifests/plain-http")
	on := asDocumented(n, script, from)
	w.create(on)
	w.finished(on, patience)
}
