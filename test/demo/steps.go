package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/test/lab"
)

// prepare does what the owner of the registry's credential does, once.
func (d *demo) prepare(ctx context.Context) error {
	d.titlef("A private registry, %s, and one Connector for it", d.credential.Address)
	for _, namespace := range []string{shop, stranger} { // of an earlier demonstration
		if err := d.Delete(ctx, "", "{apiVersion: v1, kind: Namespace, metadata: {name: "+namespace+"}}"); err != nil {
			return err
		}
	}
	if _, err := d.Harbor(ctx, "push", "test/abc:v1", "--size", "8MiB"); err != nil {
		return err
	}
	d.sayf("%s was pushed to it; it lets nobody pull without a password.", image)
	connector := lab.Connector{Namespace: v1alpha1.SystemNamespace, Name: "harbor", Access: `
  access:
  - namespaces: {from: Selector, selector: {matchLabels: {team: shop}}}
    repositories: ["test/**"]
`}
	if err := d.Connect(ctx, connector); err != nil {
		return err
	}
	d.sayf("Connector 'berth-system/harbor' is Ready: namespaces labelled team=shop may pull test/**.\nIts Secret holds the password, and nothing else does.")
	return nil
}

// withoutLabel: the registry refuses.
func (d *demo) withoutLabel(ctx context.Context) error {
	d.titlef("(a) The Deployment, in a namespace without the label")
	if _, err := d.Namespace(ctx, shop, "team", shop); err != nil {
		return err
	}
	d.sayf("%s", strings.TrimSpace(deployment))
	if err := d.Apply(ctx, shop, deployment); err != nil {
		return err
	}
	event, err := d.EventLike(ctx, shop, "Failed", "authorization failed", patience)
	if err != nil {
		return err
	}
	d.sayf("\nkubelet says: %s", event.Message)
	if _, err := d.EventLike(ctx, shop, "Failed", "ErrImagePull", patience); err != nil {
		return err
	}
	answer, err := d.lastAnswer("/v2/test/abc/manifests/v1")
	if err != nil {
		return err
	}
	d.sayf("\nThe registry's log: %s", answer)
	d.notedf("Without the label the Deployment fails: ErrImagePull, 401 from the registry.")
	return nil
}

// lastAnswer is the registry's newest log line about a path, which must be 401.
func (d *demo) lastAnswer(path string) (string, error) {
	log, err := d.HarborLog()
	if err != nil {
		return "", err
	}
	for _, line := range slices.Backward(slices.Collect(strings.Lines(log))) {
		if strings.Contains(line, path) && strings.Contains(line, `"status":401`) {
			return strings.TrimSpace(line), nil
		}
	}
	return "", fmt.Errorf("the registry's log shows no 401 for '%s'", path)
}

// withLabel: the same Deployment runs.
func (d *demo) withLabel(ctx context.Context) error {
	d.titlef("(b) The label, and the same Deployment once more")
	if err := d.relabel(ctx); err != nil {
		return err
	}
	d.sayf("kubectl label namespace %s %s=%s", shop, v1alpha1.LabelInject, v1alpha1.InjectEnabled)
	start := time.Now()
	if err := d.Apply(ctx, shop, deployment); err != nil {
		return err
	}
	if err := d.Available(ctx, shop, app, patience); err != nil {
		return err
	}
	took := time.Since(start)
	pods, err := d.Pods(ctx, shop)
	if err != nil {
		return err
	}
	admitted := pods[0].Spec.Containers[0].Image
	d.sayf("image as written:  %s\nimage as admitted: %s", image, admitted)
	if !strings.Contains(admitted, "/namespaces/berth-system/connectors/harbor/test/abc:v1") {
		return fmt.Errorf("the Pod was admitted with image '%s'", admitted)
	}
	if err := d.events(ctx, shop, pods[0].Name); err != nil {
		return err
	}
	d.sayf("from create to Available: %.1f s", took.Seconds())
	d.notedf("With the label the same, unmodified Deployment is Available after %.1f s. Its Pod holds a berth token, which the registry would not take.", took.Seconds())
	return nil
}

// relabel opts the namespace in, and removes the Deployment that failed.
func (d *demo) relabel(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: shop}}
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, v1alpha1.LabelInject, v1alpha1.InjectEnabled)
	if err := d.Client.Patch(ctx, namespace, client.RawPatch("application/merge-patch+json", patch)); err != nil {
		return err
	}
	if err := d.Client.DeleteAllOf(ctx, &corev1.Event{}, client.InNamespace(shop)); err != nil {
		return err
	}
	return d.Delete(ctx, shop, deployment)
}

func (d *demo) events(ctx context.Context, namespace, pod string) error {
	events, err := d.Events(ctx, namespace)
	if err != nil {
		return err
	}
	slices.SortFunc(events, func(a, b corev1.Event) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	d.sayf("\nits events:")
	for _, e := range events {
		if e.InvolvedObject.Name == pod {
			d.sayf("  %-10s %s", e.Reason, e.Message)
		}
	}
	d.sayf("")
	return nil
}

// nowhere looks for the password wherever it may not be.
func (d *demo) nowhere(ctx context.Context) error {
	d.titlef("(c) Where is the registry's password?")
	search := d.NewSearch(d.credential)
	home := client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: "harbor-credentials"}
	var secret corev1.Secret
	if err := d.Client.Get(ctx, home, &secret); err != nil {
		return err
	}
	if !d.NewSearch(d.credential).In("Secret", home.String(), secret.Data["password"]) {
		return fmt.Errorf("the search does not find the password where it is, in Secret '%s'", home)
	}
	if err := search.Objects(ctx, home); err != nil {
		return err
	}
	if err := search.Logs(ctx, v1alpha1.SystemNamespace); err != nil {
		return err
	}
	if err := search.Files(lab.NodeFolders()...); err != nil {
		return err
	}
	if len(search.Found) > 0 {
		return fmt.Errorf("the password is in %s", strings.Join(search.Found, ", "))
	}
	n := search.Looked
	summary := fmt.Sprintf("%d Secrets, %d Pods, %d ConfigMaps, %d Events, %d logs of Berth and %d files of the node (%.0f MB in all)",
		n["Secret"], n["Pod"], n["ConfigMap"], n["Event"], n["log"], n["file"], float64(search.Bytes)/1e6)
	d.sayf("Looked through every Secret but the Connector's, every Pod, ConfigMap and Event, the logs of Berth, and the node's files:\n%s.\nIt is nowhere.", summary)
	d.notedf("The password is in the Connector's Secret and nowhere else: not in %s.", summary)
	return nil
}

// refused: a namespace that the Connector does not list.
func (d *demo) refused(ctx context.Context) error {
	d.titlef("(d) A namespace without access")
	if _, err := d.Namespace(ctx, stranger, v1alpha1.LabelInject, v1alpha1.InjectEnabled); err != nil {
		return err
	}
	asking := strings.Replace(deployment, "    metadata: {labels: {app: abc}}", "    metadata: {labels: {app: abc}, annotations: {"+v1alpha1.AnnotationConnector+": berth-system/harbor}}", 1)
	if err := d.Apply(ctx, stranger, asking); err != nil {
		return err
	}
	event, err := d.EventLike(ctx, stranger, "FailedCreate", "does not grant access", patience)
	if err != nil {
		return err
	}
	d.sayf("A Pod there that asks for the Connector is refused at admission:\n%s", event.Message)
	status, body, err := d.AskProxy(ctx, stranger, http.MethodGet, "/v2/namespaces/berth-system/connectors/harbor/test/abc/manifests/v1")
	if err != nil {
		return err
	}
	d.sayf("\nIts token, shown to the proxy: %d\n%s", status, strings.TrimSpace(body))
	if status != http.StatusForbidden || !strings.Contains(body, "DENIED") {
		return fmt.Errorf("the proxy answers %d: %s", status, body)
	}
	d.notedf("A namespace that the Connector does not list is refused, at admission and at the proxy, and told why.")
	return nil
}
