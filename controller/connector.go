// Package controller keeps the cluster in the state that the other parts of
// Berth rely on:
//
//   - Connectors: finds out whether each can be used and says so in its
//     conditions; keeps the Service 'c-NAME' that leads to the proxy, and the
//     certificate authority that the forward proxy signs with for its hosts.
//   - TokenSecrets: keeps the Secrets 'berth-pull' and 'berth-proxy', with fresh
//     berth tokens, in every opted-in namespace, before the first Pod there needs them.
//   - TokenKeys: makes and rotates the keys that sign berth tokens, and
//     publishes their public halves for the proxies.
//   - Authority: makes and rotates a certificate authority, and publishes what
//     verifies it.
//
// All of them run in the elected leader alone.
package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlopts "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
	"berth.dev/berth/route"
)

const (
	// checkAgain is how often a Connector that is Ready is looked at again, and
	// with it its registry's liveness.
	checkAgain = 2 * time.Minute
	// retryAfter is how soon one that is not Ready is looked at again.
	retryAfter = 20 * time.Second
	// conflictWait is how soon after somebody else wrote in between.
	conflictWait = 200 * time.Millisecond
	// connectorWorkers is how many registries are probed at once.
	connectorWorkers = 8
)

// Secrets are those that Connectors name; *secret.Follower is one.
type Secrets interface {
	Follow(owner route.Connector, names ...types.NamespacedName)
	Get(ctx context.Context, name types.NamespacedName) (*corev1.Secret, error)
	Owners(name types.NamespacedName) []route.Connector
}

// Connectors reconciles Connectors.
type Connectors struct {
	// Client reads from caches, Reader from the API server.
	Client client.Client
	Reader client.Reader
	// Secrets are followed on behalf of the Connectors.
	Secrets Secrets
	// Changed tells of Secrets that changed.
	Changed <-chan event.TypedGenericEvent[types.NamespacedName]
	// Dial is the way out to registries.
	Dial DialContext
	// ClusterDomain is the DNS suffix of Services.
	ClusterDomain string
	// Now is the clock.
	Now func() time.Time

	refusals refusals
}

// Setup registers the reconciler.
func (r *Connectors) Setup(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("connector").
		For(&v1alpha1.Connector{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&corev1.Service{}).
		Watches(&v1alpha1.ConnectorClass{}, handler.EnqueueRequestsFromMapFunc(r.ofClass)).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.all)).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(ofInterception)).
		WatchesRawSource(source.TypedChannel(r.Changed, handler.TypedEnqueueRequestsFromMapFunc(r.ofSecret))).
		WithOptions(ctrlopts.Options{MaxConcurrentReconciles: connectorWorkers}).
		Complete(r)
}

func (r *Connectors) ofClass(ctx context.Context, class client.Object) []reconcile.Request {
	return r.each(ctx, func(c *v1alpha1.Connector) bool { return c.Spec.ConnectorClassName == class.GetName() })
}

// all is for the proxy's authority, which stands in every status.
func (r *Connectors) all(ctx context.Context, _ client.Object) []reconcile.Request {
	return r.each(ctx, func(*v1alpha1.Connector) bool { return true })
}

func (r *Connectors) each(ctx context.Context, wanted func(*v1alpha1.Connector) bool) []reconcile.Request {
	var list v1alpha1.ConnectorList
	if err := r.Client.List(ctx, &list); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "list the Connectors")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if wanted(&list.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return requests
}

func (r *Connectors) ofSecret(_ context.Context, name types.NamespacedName) []reconcile.Request {
	var requests []reconcile.Request
	for _, c := range r.Secrets.Owners(name) {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: c.Namespace, Name: c.Name}})
	}
	return requests
}

// Reconcile finds out the conditions of one Connector and writes them down.
func (r *Connectors) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	name := route.Connector{Namespace: request.Namespace, Name: request.Name}
	var connector v1alpha1.Connector
	err := r.Client.Get(ctx, request.NamespacedName, &connector)
	if apierrors.IsNotFound(err) || connector.DeletionTimestamp != nil { // made anew, its Service would hold up a deletion in the foreground for ever
		r.Secrets.Follow(name)
		r.refusals.forget(request.NamespacedName)
		return reconcile.Result{}, r.dropInterception(ctx, name)
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read Connector '%s': %w", name, err)
	}
	r.Secrets.Follow(name, SecretsOf(&connector)...)
	before := connector.Status.DeepCopy()
	if err := r.examine(ctx, &connector); err != nil {
		return reconcile.Result{}, err
	}
	store, err := r.examineInterception(ctx, &connector)
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := r.writeStatus(ctx, &connector, before); err != nil {
		if apierrors.IsConflict(err) { // the cache was behind
			return reconcile.Result{RequeueAfter: conflictWait}, nil
		}
		return reconcile.Result{}, err
	}
	if err := store(ctx); err != nil {
		return reconcile.Result{}, err
	}
	if meta.IsStatusConditionTrue(connector.Status.Conditions, v1alpha1.ConditionReady) {
		return reconcile.Result{RequeueAfter: checkAgain}, nil
	}
	return reconcile.Result{RequeueAfter: retryAfter}, nil
}

// SecretsOf returns the Secrets that a Connector names.
func SecretsOf(c *v1alpha1.Connector) []types.NamespacedName {
	var names []types.NamespacedName
	if c.Spec.Auth != nil {
		names = append(names, types.NamespacedName{Namespace: c.Namespace, Name: c.Spec.Auth.SecretRef.Name})
	}
	if c.Spec.CACertSecretRef != nil {
		names = append(names, types.NamespacedName{Namespace: c.Namespace, Name: c.Spec.CACertSecretRef.Name})
	}
	return names
}

func (r *Connectors) writeStatus(ctx context.Context, connector *v1alpha1.Connector, before *v1alpha1.ConnectorStatus) error {
	connector.Status.ObservedGeneration = connector.Generation
	if statusEqual(before, &connector.Status) {
		return nil
	}
	err := r.Client.Status().Update(ctx, connector)
	if apierrors.IsNotFound(err) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return fmt.Errorf("write the status of Connector '%s/%s': %w", connector.Namespace, connector.Name, err)
	}
	return nil
}

// examine sets every condition.
func (r *Connectors) examine(ctx context.Context, c *v1alpha1.Connector) error {
	findings := newFindings(c)
	class, err := r.examineClass(ctx, c, findings)
	if err != nil {
		return err
	}
	material := r.examineSecrets(ctx, c, class, findings)
	if err := r.examineProxy(ctx, c, findings); err != nil {
		return err
	}
	if err := r.examineRegistry(ctx, c, class, material, findings); err != nil {
		return err
	}
	findings.conclude()
	return nil
}

// examineClass returns the class, or nothing where the Connector cannot be of it.
func (r *Connectors) examineClass(ctx context.Context, c *v1alpha1.Connector, f *findings) (class *v1alpha1.ConnectorClass, err error) {
	const kind = v1alpha1.ConditionConnectorClassReady
	var found v1alpha1.ConnectorClass
	err = r.Client.Get(ctx, types.NamespacedName{Name: c.Spec.ConnectorClassName}, &found)
	switch {
	case apierrors.IsNotFound(err):
		f.nof(kind, v1alpha1.ReasonClassNotFound,
			"ConnectorClass '%s' does not exist; `kubectl get connectorclasses` lists those that do", c.Spec.ConnectorClassName)
	case err != nil:
		return nil, fmt.Errorf("read ConnectorClass '%s': %w", c.Spec.ConnectorClassName, err)
	case c.Spec.Auth != nil && secretType(&found, c.Spec.Auth.Name) == "":
		f.nof(kind, v1alpha1.ReasonAuthNotSupported,
			"ConnectorClass '%s' does not take `auth.name` '%s'; write one of those in its `spec.auth`", found.Name, c.Spec.Auth.Name)
	default:
		f.yes(kind, v1alpha1.ReasonFound, "ConnectorClass '"+found.Name+"'")
		class = &found
	}
	return class, nil
}

func secretType(class *v1alpha1.ConnectorClass, auth string) corev1.SecretType {
	for _, a := range class.Spec.Auth {
		if a.Name == auth {
			return corev1.SecretType(a.SecretType)
		}
	}
	return ""
}

// errBlocked stands for a condition that another one keeps from being found out.
var errBlocked = errors.New("another condition must be True first")

// examineRegistry probes the registry where all that is needed for it is there.
func (r *Connectors) examineRegistry(ctx context.Context, c *v1alpha1.Connector, class *v1alpha1.ConnectorClass, m material, f *findings) error {
	if class == nil || m.caCertErr != nil {
		f.blocked(v1alpha1.ConditionLivenessReady)
		f.blocked(v1alpha1.ConditionAuthReady)
		return nil
	}
	address := c.Spec.Address
	if compiled, err := access.New(c); err == nil { // as the proxy reaches it
		address = compiled.Address.String()
	}
	probe, err := newProbe(address, m.caCert, r.Dial)
	if err != nil {
		return fmt.Errorf("probe for Connector '%s/%s': %w", c.Namespace, c.Name, err)
	}
	defer probe.close()
	if !f.liveness(probe.get(ctx, class.Spec.Probes.Liveness.Path, nil)) {
		f.blocked(v1alpha1.ConditionAuthReady)
		return nil
	}
	switch {
	case c.Spec.Auth == nil:
		f.yes(v1alpha1.ConditionAuthReady, v1alpha1.ReasonNotNeeded, "the Connector signs in to nothing")
	case m.basicErr != nil:
		f.blocked(v1alpha1.ConditionAuthReady)
	default:
		r.examineAuth(ctx, c, class, m, probe, f)
	}
	return nil
}

// examineAuth signs in, but not again with a credential that was just refused:
// a registry locks an account after some attempts.
func (r *Connectors) examineAuth(ctx context.Context, c *v1alpha1.Connector, class *v1alpha1.ConnectorClass, m material, p *probe, f *findings) {
	name := types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
	if status, ok := r.refusals.recent(name, m.version, r.Now()); ok {
		f.refused(status, c.Spec.Auth.SecretRef.Name)
		return
	}
	status, exchanged, err := p.signIn(ctx, class.Spec.Probes.Auth.Path, &c.Spec, m.basic.Authorize)
	if e, ok := errors.AsType[*bearer.Error](err); ok && bearer.IsRefusal(e) {
		status, err = e.Status, nil
	}
	refusal := err == nil && !exchanged && (status == http.StatusUnauthorized || status == http.StatusForbidden)
	if !refusal {
		r.refusals.forget(name)
		f.auth(ctx, status, exchanged, err)
		return
	}
	r.refusals.note(name, refused{m.version, status, r.Now()})
	f.refused(status, c.Spec.Auth.SecretRef.Name)
}

func statusEqual(a, b *v1alpha1.ConnectorStatus) bool {
	if a.ObservedGeneration != b.ObservedGeneration || len(a.Conditions) != len(b.Conditions) {
		return false
	}
	for _, x := range a.Conditions {
		y := meta.FindStatusCondition(b.Conditions, x.Type)
		if y == nil || *y != x {
			return false
		}
	}
	if a.Proxy.InterceptionCABundle != b.Proxy.InterceptionCABundle {
		return false
	}
	if (a.Proxy.HTTPAddress == nil) != (b.Proxy.HTTPAddress == nil) {
		return false
	}
	return a.Proxy.HTTPAddress == nil || *a.Proxy.HTTPAddress == *b.Proxy.HTTPAddress
}
