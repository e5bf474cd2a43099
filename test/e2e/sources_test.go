package e2e_test

import (
	"strings"
	"testing"

	"berth.dev/berth/api/v1alpha1"
)

// TestSources: where an administrator turned it on, a token for the forward proxy opens nothing from another
// namespace's Pod, and its namespace is told; from a Pod of its own it does what it did.
func TestSources(t *testing.T) {
	w := enter(t)
	w.withBuilders()
	own, _ := w.workshop("sources", v1alpha1.LabelInject, v1alpha1.InjectEnabled)
	other := w.namespace("elsewhere")
	image := variable("IMAGE", w.push("1MiB"))
	stolen := "http://berth:" + w.proxyToken(own.Name, "") + "@" + strings.Join([]string{v1alpha1.ProxyService, v1alpha1.SystemNamespace, "svc:3128"}, ".")
	const inspect = `skopeo inspect "docker://$IMAGE"`
	failing := func(says string) string {
		return `if said=$(` + inspect + ` 2>&1); then exit 1; fi; case $said in *"` + says + `"*) ;; *) exit 1;; esac`
	}
	play := func(name, namespace, script, proxy string, labels map[string]string) {
		t.Helper()
		p := job(namespace, script, image)
		p.Name, p.Labels = name, labels
		if proxy != "" {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, variable("HTTPS_PROXY", proxy))
		}
		w.create(p)
		w.finished(p, patience)
	}
	// Without the volume's authorities it gets no further than to the tunnel.
	play("off", other.Name, failing("certificate signed by unknown authority"), stolen, nil)

	defer w.run("kubectl", "delete", "clusterrolebinding/berth-proxy-pods", "clusterrole/berth-proxy-pods")
	defer w.install("manifests/base")
	w.install("manifests/check-sources")
	play("on", other.Name, failing("Proxy Authentication Required"), stolen, nil)
	play("own", own.Name, inspect, "", map[string]string{ofPipeline: "build"})
	_, err := w.EventLike(w.ctx, own.Name, "SourceRefused", "no Pod's of its namespace", patience)
	w.ok(err)
}
