package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/config"
	"berth.dev/berth/controller"
	"berth.dev/berth/rewrite"
	"berth.dev/berth/route"
	"berth.dev/berth/webhook"
)

const (
	// own is the namespace whose Pods are admitted.
	own = "shop"
	// perNamespace is how many Connectors a team has.
	perNamespace = 10
	// shared is the share of other teams' Connectors that are for the registry that ours uses too: one of as many.
	shared = 20
	// tokenLength is about how long a berth token is.
	tokenLength = 480
)

// world is what the controller's process holds of a cluster: what its caches
// hold, each object decoded by itself as from a watch, and the catalogue.
type world struct {
	connectors, services, namespaces, secrets toolscache.Store

	lean      func(any) (any, error) // of Connectors
	catalogue *access.Catalogue
	policy    rewrite.Policy
}

func newWorld() *world {
	store := func() toolscache.Store {
		return toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc})
	}
	return &world{
		connectors: store(), services: store(), namespaces: store(), secrets: store(),
		lean: controller.LeanConnectors(), catalogue: &access.Catalogue{}, policy: config.Default(),
	}
}

// handler admits Pods into this world.
func (w *world) handler() *webhook.Handler {
	return webhook.New(w, w.catalogue, func() *rewrite.Policy { return &w.policy })
}

// Namespace implements webhook.Cluster, as the controller does: by a copy of what the cache holds.
func (w *world) Namespace(_ context.Context, name string) (rewrite.Namespace, bool) {
	o, ok, _ := w.namespaces.GetByKey(name)
	if !ok {
		return rewrite.Namespace{}, false
	}
	n, ok := o.(*corev1.Namespace)
	if !ok {
		return rewrite.Namespace{}, false
	}
	n = n.DeepCopy()
	return rewrite.Namespace{Name: n.Name, Labels: n.Labels, Annotations: n.Annotations}, true
}

// HasPullSecret implements webhook.Cluster.
func (w *world) HasPullSecret(_ context.Context, namespace string) bool {
	_, ok, _ := w.secrets.GetByKey(namespace + "/" + v1alpha1.PullSecret)
	return ok
}

// cluster is a world with our namespace and as many Connectors, all of which
// it may use: its own, trusted ones, and other teams' on many registries.
// With oneRegistry the others are all for the one that ours uses too.
func cluster(connectors int, oneRegistry bool) (*world, error) {
	w := newWorld()
	if err := w.addNamespace(own, own, v1alpha1.SystemNamespace); err != nil {
		return nil, err
	}
	given := []struct{ namespace, name, address string }{
		{own, "harbor", "https://harbor.example.com"},
		{own, "artifactory", "https://artifactory.example.com/docker"},
		{v1alpha1.SystemNamespace, "docker-hub", "https://docker.io"},
		{v1alpha1.SystemNamespace, "ghcr", "https://ghcr.io"},
		{v1alpha1.SystemNamespace, "harbor", "https://harbor.example.com"},
	}
	for i, g := range given {
		if err := w.addConnector(connector(i, g.namespace, g.name, g.address)); err != nil {
			return nil, err
		}
	}
	for i := len(given); i < connectors; i++ {
		address := fmt.Sprintf("https://registry-%d.example.com", i%100)
		if oneRegistry || i%shared == 0 {
			address = "https://harbor.example.com"
		}
		if err := w.addConnector(connector(i, team(i/perNamespace), fmt.Sprintf("harbor-%d", i%perNamespace), address)); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func team(i int) string { return fmt.Sprintf("team-%d", i) }

// connector is one that every namespace may use, as it stands after some time in a cluster.
func connector(i int, namespace, name, address string) *v1alpha1.Connector {
	route := route.Connector{Namespace: namespace, Name: name}
	c := &v1alpha1.Connector{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.Group + "/" + v1alpha1.Version, Kind: "Connector"},
		ObjectMeta: metaOf(i, namespace, name),
		Spec: v1alpha1.ConnectorSpec{
			ConnectorClassName: "harbor", Address: address,
			Auth: &v1alpha1.ConnectorAuth{Name: v1alpha1.AuthBasic, SecretRef: v1alpha1.SecretReference{Name: "harbor-credentials"}},
			Access: []v1alpha1.AccessRule{
				{Actions: []v1alpha1.Action{v1alpha1.ActionPull, v1alpha1.ActionPush}},
				{
					Namespaces: v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromSelector, Selector: &metav1.LabelSelector{
						MatchLabels: map[string]string{v1alpha1.LabelInject: v1alpha1.InjectEnabled},
					}},
					Repositories: []string{"shop/**", "library/*", "example/*"}, Actions: []v1alpha1.Action{v1alpha1.ActionPull},
				},
			},
		},
	}
	c.Status.ObservedGeneration = 1
	for _, kind := range []string{
		v1alpha1.ConditionConnectorClassReady, v1alpha1.ConditionSecretReady, v1alpha1.ConditionCACertReady, v1alpha1.ConditionLivenessReady,
		v1alpha1.ConditionAuthReady, v1alpha1.ConditionProxyReady, v1alpha1.ConditionReady,
	} {
		c.Status.Conditions = append(c.Status.Conditions, metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: "Found", Message: "Secret 'harbor-credentials' holds a credential", ObservedGeneration: 1,
		})
	}
	c.Status.Proxy.HTTPAddress = &v1alpha1.ProxyAddress{
		URL: "https://" + route.Host(v1alpha1.ClusterDomain) + "/" + route.Format(), CABundle: strings.Repeat("c", 700),
	}
	return c
}

// metaOf is the metadata of an object that has been in a cluster for some time.
func metaOf(i int, namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: uid(i), ResourceVersion: strconv.Itoa(1_000_000 + i), Generation: 1,
		Labels:        map[string]string{v1alpha1.LabelManagedBy: v1alpha1.FieldManager},
		ManagedFields: managedFields(map[string]any{"f:metadata": map[string]any{"f:labels": map[string]any{"f:" + v1alpha1.LabelManagedBy: map[string]any{}}}}),
	}
}

// addConnector adds a Connector to cache and catalogue.
func (w *world) addConnector(c *v1alpha1.Connector) error {
	cached, err := received(c, &v1alpha1.Connector{})
	if err != nil {
		return err
	}
	lean, err := w.lean(cached)
	if err != nil {
		return err
	}
	compiled, err := access.New(cached)
	if err != nil {
		return err
	}
	w.catalogue.Put(compiled)
	return w.connectors.Add(lean)
}

// addService adds the Service of a Connector to the cache.
func (w *world) addService(namespace, connector string) error {
	meta := metaOf(0, namespace, v1alpha1.ServicePrefix+connector)
	meta.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: v1alpha1.Group + "/" + v1alpha1.Version, Kind: "Connector", Name: connector, UID: meta.UID,
		Controller: new(true), BlockOwnerDeletion: new(true),
	}}
	service, err := received(&corev1.Service{
		ObjectMeta: meta,
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeExternalName, SessionAffinity: corev1.ServiceAffinityNone,
			ExternalName: v1alpha1.ProxyService + "." + v1alpha1.SystemNamespace + ".svc." + v1alpha1.ClusterDomain,
		},
	}, &corev1.Service{})
	if err != nil {
		return err
	}
	lean, err := controller.LeanService(service)
	if err != nil {
		return err
	}
	return w.services.Add(lean)
}

// addNamespace adds an opted-in Namespace, and its pull secret with a token for
// the Connectors of each of the namespaces.
func (w *world) addNamespace(name string, with ...string) error {
	n := &corev1.Namespace{ObjectMeta: metaOf(0, "", name), Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}}
	n.Labels = map[string]string{
		corev1.LabelMetadataName: name, v1alpha1.LabelInject: v1alpha1.InjectEnabled, "team": name, "pod-security.kubernetes.io/enforce": "restricted",
	}
	cached, err := received(n, &corev1.Namespace{})
	if err != nil {
		return err
	}
	if err := w.namespaces.Add(cached); err != nil {
		return err
	}
	var entries []string
	for _, namespace := range with {
		entries = append(entries, fmt.Sprintf(`%q:{"username":"berth","password":%q}`,
			route.HostGlob(namespace, v1alpha1.ClusterDomain), strings.Repeat("t", tokenLength)))
	}
	s := &corev1.Secret{
		ObjectMeta: metaOf(0, name, v1alpha1.PullSecret), Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{` + strings.Join(entries, ",") + `}}`)},
	}
	s.Annotations = map[string]string{v1alpha1.AnnotationExpires: "2026-01-08T12:00:00Z", v1alpha1.AnnotationRenew: "2026-01-04T12:00:00Z"}
	secret, err := received(s, &corev1.Secret{})
	if err != nil {
		return err
	}
	return w.secrets.Add(secret)
}

// received returns an object as the caches hold it: decoded by itself, so that
// it shares nothing with others, and without managed fields.
func received[T client.Object](o, into T) (T, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return into, fmt.Errorf("encode %T: %w", o, err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return into, fmt.Errorf("decode %T: %w", o, err)
	}
	if _, err := cache.TransformStripManagedFields()(runtime.Object(into)); err != nil {
		return into, fmt.Errorf("strip %T: %w", o, err)
	}
	return into, nil
}
