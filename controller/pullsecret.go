package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlopts "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
	"berth.dev/berth/token"
)

const (
	// PullTokenLife is how long a pull token is good: a cluster survives a controller that is away for days.
	PullTokenLife = 7 * 24 * time.Hour
	// pullTokenRenew is the age at which it is renewed, long before it expires.
	pullTokenRenew = 24 * time.Hour
	// keysWait is how soon a namespace is looked at again while there is no key to sign with.
	keysWait = 200 * time.Millisecond
	// tokenUser is the user name beside the token; the proxy takes any.
	tokenUser = "berth"
	// namespaceWorkers is how many pull secrets are made at once.
	namespaceWorkers = 8
)

// PullSecrets reconciles Namespaces: each that is opted in has the Secret 'berth-pull'.
//
// A Namespace that is no longer opted in keeps its Secret until the token in it
// expires, so that its running Pods can move to other nodes meanwhile.
type PullSecrets struct {
	// Client reads from caches, of Secrets 'berth-pull' alone.
	Client client.Client
	// Connectors are those of the cluster, and Changed tells of each after it changed there.
	Connectors *access.Catalogue
	Changed    <-chan event.TypedGenericEvent[*v1alpha1.Connector]
	// Keys sign the tokens; false while there are none.
	Keys func() (token.Keys, bool)
	// ClusterDomain is the DNS suffix of Services.
	ClusterDomain string
	// Now is the clock.
	Now func() time.Time
}

// Setup registers the reconciler.
func (r *PullSecrets) Setup(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("pullsecret").
		For(&corev1.Namespace{}).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(ofPullSecret)).
		WatchesRawSource(source.TypedChannel(r.Changed, handler.TypedEnqueueRequestsFromMapFunc(r.optedIn))).
		WithOptions(ctrlopts.Options{MaxConcurrentReconciles: namespaceWorkers}).
		Complete(r)
}

func ofPullSecret(_ context.Context, o client.Object) []reconcile.Request {
	if o.GetName() != v1alpha1.PullSecret {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetNamespace()}}}
}

// optedIn is for a Connector that changed: it may be visible elsewhere now.
func (r *PullSecrets) optedIn(ctx context.Context, _ *v1alpha1.Connector) []reconcile.Request {
	var list corev1.NamespaceList
	if err := r.Client.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelInject: v1alpha1.InjectEnabled}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "list the opted-in Namespaces")
		return nil
	}
	requests := make([]reconcile.Request, len(list.Items))
	for i := range list.Items {
		requests[i].Name = list.Items[i].Name
	}
	return requests
}

// Reconcile makes, renews or removes the pull secret of one Namespace.
func (r *PullSecrets) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var namespace corev1.Namespace
	if err := r.Client.Get(ctx, request.NamespacedName, &namespace); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if namespace.DeletionTimestamp != nil || namespace.Name == v1alpha1.SystemNamespace {
		return reconcile.Result{}, nil
	}
	var have corev1.Secret
	name := types.NamespacedName{Namespace: namespace.Name, Name: v1alpha1.PullSecret}
	err := r.Client.Get(ctx, name, &have)
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Result{}, fmt.Errorf("read Secret '%s': %w", name, err)
	}
	exists := err == nil
	if namespace.Labels[v1alpha1.LabelInject] != v1alpha1.InjectEnabled {
		return r.retire(ctx, &have, exists)
	}
	keys, ok := r.Keys()
	if !ok {
		return reconcile.Result{RequeueAfter: keysWait}, nil
	}
	return r.keep(ctx, &namespace, &have, exists, keys)
}

// retire removes the Secret of a Namespace that is not opted in, once its token has expired.
func (r *PullSecrets) retire(ctx context.Context, have *corev1.Secret, exists bool) (reconcile.Result, error) {
	if !exists || have.Labels[v1alpha1.LabelManagedBy] != v1alpha1.FieldManager {
		return reconcile.Result{}, nil
	}
	if left := stamp(have, v1alpha1.AnnotationExpires).Sub(r.Now()); left > 0 {
		return reconcile.Result{RequeueAfter: left}, nil
	}
	if err := r.Client.Delete(ctx, have); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("delete Secret '%s/%s': %w", have.Namespace, have.Name, err)
	}
	return reconcile.Result{}, nil
}

// keep sees to it that the Secret holds a fresh token for all hosts.
func (r *PullSecrets) keep(ctx context.Context, namespace *corev1.Namespace, have *corev1.Secret, exists bool, keys token.Keys) (reconcile.Result, error) {
	hosts := r.hosts(access.Caller{Namespace: namespace.Name, Labels: namespace.Labels})
	now := r.Now()
	if exists && r.fresh(have, namespace, hosts, keys, now) {
		return reconcile.Result{RequeueAfter: stamp(have, v1alpha1.AnnotationRenew).Sub(now)}, nil
	}
	want, err := pullSecret(namespace, hosts, keys, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	if exists {
		want.UID, want.ResourceVersion = have.UID, have.ResourceVersion
		err = r.Client.Update(ctx, want)
	} else {
		err = r.Client.Create(ctx, want)
	}
	switch {
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
		return reconcile.Result{RequeueAfter: conflictWait}, nil // the cache was behind
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("write Secret '%s/%s': %w", want.Namespace, want.Name, err)
	}
	return reconcile.Result{RequeueAfter: pullTokenRenew}, nil
}

// hosts are the hosts, as globs, of the caller's own namespace and of those with
// a Connector that it may use: one a namespace, since one a Connector might
// pass what a Secret can hold.
func (r *PullSecrets) hosts(caller access.Caller) []string {
	hosts := []string{route.HostGlob(caller.Namespace, r.ClusterDomain)}
	for _, c := range r.Connectors.Visible(caller) {
		hosts = append(hosts, route.HostGlob(c.Namespace, r.ClusterDomain))
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// fresh reports whether the Secret holds, for just these hosts, a token that verifies and need not be renewed.
func (r *PullSecrets) fresh(have *corev1.Secret, namespace *corev1.Namespace, hosts []string, keys token.Keys, now time.Time) bool {
	var config dockerConfig
	if json.Unmarshal(have.Data[corev1.DockerConfigJsonKey], &config) != nil || len(config.Auths) != len(hosts) {
		return false
	}
	if !now.Before(stamp(have, v1alpha1.AnnotationRenew)) || have.Labels[v1alpha1.LabelManagedBy] != v1alpha1.FieldManager {
		return false
	}
	signed := config.Auths[hosts[0]].Password // there is always the namespace's own
	for _, host := range hosts {
		if config.Auths[host].Password != signed {
			return false
		}
	}
	claims, err := keys.Public().Verify(signed, now, token.AudiencePull)
	return err == nil && claims.NamespaceUID == string(namespace.UID) && claims.Namespace == namespace.Name
}

// dockerConfig is the content of a kubernetes.io/dockerconfigjson Secret.
type dockerConfig struct {
	Auths map[string]dockerAuth `json:"auths"`
}

type dockerAuth struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

func pullSecret(namespace *corev1.Namespace, hosts []string, keys token.Keys, now time.Time) (*corev1.Secret, error) {
	expires := now.Add(PullTokenLife)
	signed, err := keys.Sign(now, token.Claims{
		Namespace: namespace.Name, NamespaceUID: string(namespace.UID),
		Audience: token.AudiencePull, IssuedAt: now, Expires: expires,
	})
	if err != nil {
		return nil, err
	}
	config := dockerConfig{Auths: make(map[string]dockerAuth, len(hosts))}
	for _, host := range hosts {
		config.Auths[host] = dockerAuth{Username: tokenUser, Password: signed}
	}
	content, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("encode the pull secret of namespace '%s': %w", namespace.Name, err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace.Name, Name: v1alpha1.PullSecret,
			Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.FieldManager},
			Annotations: map[string]string{
				v1alpha1.AnnotationExpires: expires.UTC().Format(time.RFC3339),
				v1alpha1.AnnotationRenew:   now.Add(pullTokenRenew).UTC().Format(time.RFC3339),
			},
		},
		Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: content},
	}, nil
}

// stamp reads a time from an annotation; what cannot be read is long past.
func stamp(o client.Object, key string) time.Time {
	at, err := time.Parse(time.RFC3339, o.GetAnnotations()[key])
	if err != nil {
		return time.Time{}
	}
	return at
}
