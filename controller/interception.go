package controller

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
	"berth.dev/berth/route"
)

// InterceptionSecret names the Secret, in v1alpha1.InterceptionNamespace, with
// the authority of a Connector. A Secret for each: of 10,000 Connectors one
// would not hold all, and one that changes wakes nobody else.
func InterceptionSecret(c route.Connector) string { return c.Namespace + "." + c.Name }

// InterceptedConnector returns the Connector that a Secret is of, and its UID.
func InterceptedConnector(s *corev1.Secret) (route.Connector, types.UID, bool) {
	namespace, name, ok := strings.Cut(s.Name, ".") // a namespace has no dot
	if !ok || s.Namespace != v1alpha1.InterceptionNamespace {
		return route.Connector{}, "", false
	}
	return route.Connector{Namespace: namespace, Name: name}, types.UID(s.Labels[v1alpha1.LabelConnectorUID]), true
}

func ofInterception(_ context.Context, o client.Object) []reconcile.Request {
	s, ok := o.(*corev1.Secret)
	if !ok {
		return nil
	}
	c, _, ok := InterceptedConnector(s)
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: c.Namespace, Name: c.Name}}}
}

// examineInterception writes into the status what verifies the Connector's
// interception, and returns what is to be done once that is published: whoever
// reads the Secret may sign at once.
func (r *Connectors) examineInterception(ctx context.Context, c *v1alpha1.Connector) (store func(context.Context) error, err error) {
	name := route.Connector{Namespace: c.Namespace, Name: c.Name}
	compiled, err := access.New(c)
	if err != nil {
		return nothing, nil //nolint:nilerr // ProxyReady says so
	}
	var scope certs.Scope
	scope.Domains, scope.Addresses = compiled.Hosts()
	if len(scope.Domains)+len(scope.Addresses) == 0 {
		c.Status.Proxy.InterceptionCABundle = ""
		return func(ctx context.Context) error { return r.dropInterception(ctx, name) }, nil
	}
	next, stored, err := r.stepInterception(ctx, r.Client, c, scope)
	if err == nil && stored != nil { // not by a cache that is behind: proxies may sign already with what it does not have
		next, stored, err = r.stepInterception(ctx, r.Reader, c, scope)
	}
	if err != nil {
		return nil, err
	}
	c.Status.Proxy.InterceptionCABundle = string(next.Bundle())
	if stored == nil {
		return nothing, nil
	}
	return func(ctx context.Context) error {
		data, err := next.Marshal()
		if err != nil {
			return err
		}
		return writeSecret(ctx, r.Client, stored, data)
	}, nil
}

func nothing(context.Context) error { return nil }

// stepInterception returns a Connector's authorities as they should be now, and
// the Secret that is to hold them; nil where it does already. What is there of a
// deleted namesake is as nothing.
func (r *Connectors) stepInterception(ctx context.Context, reader client.Reader, c *v1alpha1.Connector, scope certs.Scope) (next certs.Authorities, stale *corev1.Secret, err error) {
	connector := route.Connector{Namespace: c.Namespace, Name: c.Name}
	name := types.NamespacedName{Namespace: v1alpha1.InterceptionNamespace, Name: InterceptionSecret(connector)}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	if err := reader.Get(ctx, name, s); client.IgnoreNotFound(err) != nil {
		return nil, nil, fmt.Errorf("read Secret '%s': %w", name, err)
	}
	var have certs.Authorities
	if s.Labels[v1alpha1.LabelConnectorUID] != string(c.UID) {
		metav1.SetMetaDataLabel(&s.ObjectMeta, v1alpha1.LabelConnectorUID, string(c.UID))
	} else if have, err = certs.ParseAuthorities(s.Data); err != nil {
		return nil, nil, fmt.Errorf("read Secret '%s': %w; delete it, and Berth makes a new authority", name, err)
	}
	next, changed, _, err := have.Step(connector.String(), scope, r.Now())
	if err != nil || !changed {
		return next, nil, err
	}
	return next, s, nil
}

// dropInterception deletes the authority of a Connector that is gone, or needs none.
func (r *Connectors) dropInterception(ctx context.Context, c route.Connector) error {
	name := types.NamespacedName{Namespace: v1alpha1.InterceptionNamespace, Name: InterceptionSecret(c)}
	var s corev1.Secret
	err := r.Client.Get(ctx, name, &s)
	if err == nil {
		err = r.Client.Delete(ctx, &s)
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete Secret '%s': %w", name, err)
	}
	return nil
}
