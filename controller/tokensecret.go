package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlopts "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/token"
)

const (
	// PullTokenLife is how long a pull token is good: a cluster survives a controller that is away for days.
	PullTokenLife = 7 * 24 * time.Hour
	// pullTokenRenew is the age at which it is renewed, long before it expires.
	pullTokenRenew = 24 * time.Hour
	// ProxyTokenLife is how long a token for the forward proxy is good: a container's variable cannot be renewed,
	// so this is how long a Pod may live.
	ProxyTokenLife = 90 * 24 * time.Hour
	// proxyTokenRenew is the age at which the one for new Pods is renewed.
	proxyTokenRenew = 7 * 24 * time.Hour
	// tokenUser is the user name beside the token; the proxy takes any.
	tokenUser = "berth"
	// namespaceWorkers is how many token secrets are made at once.
	namespaceWorkers = 8
)

// TokenSecrets reconciles Namespaces: each that is opted in has a Secret of a kind, with a berth token.
//
// A Namespace that is no longer opted in keeps its Secret until the token in it
// expires, so that its running Pods can move to other nodes meanwhile.
type TokenSecrets struct {
	// Kind is that of the Secrets.
	Kind TokenSecret
	// Client writes, and reads Namespaces from a cache.
	Client client.Client
	// Secrets holds the Secrets of the kind's name, and no others.
	Secrets cache.Cache
	// Changed is given when the keys are others than before, and when a Connector changed, where the kind depends on them.
	Changed Signal
	// Keys sign the tokens; false while there are none.
	Keys func() (token.Keys, bool)
	// Now is the clock.
	Now func() time.Time
}

// Signal has a TokenSecrets look at all opted-in Namespaces again. Make it by
// NewSignal, one for each.
type Signal chan event.TypedGenericEvent[struct{}]

// NewSignal returns a Signal.
func NewSignal() Signal { return make(Signal, 1) }

// Give does not wait: what was given before, and nobody has taken yet, is for both.
func (s Signal) Give() {
	select {
	case s <- event.TypedGenericEvent[struct{}]{}:
	default:
	}
}

// TokenSecret is a kind of Secret with a token. Make it by PullSecret or ProxySecret.
type TokenSecret struct {
	// Name is that of the Secret, in each namespace.
	Name string

	kind        corev1.SecretType
	audience    token.Audience
	life, renew time.Duration
	// content is the Secret's for a caller, with a token.
	content func(caller access.Caller, signed string) (map[string][]byte, error)
	// held returns the token in a Secret whose content is as it should be for the caller.
	held func(caller access.Caller, content map[string][]byte) (signed string, ok bool)
}

// ProxySecret is 'berth-proxy': a token for the variables of the forward proxy.
func ProxySecret() TokenSecret {
	return TokenSecret{
		Name: v1alpha1.ProxySecret, kind: corev1.SecretTypeOpaque,
		audience: token.AudienceProxy, life: ProxyTokenLife, renew: proxyTokenRenew,
		content: func(_ access.Caller, signed string) (map[string][]byte, error) {
			return map[string][]byte{v1alpha1.ProxySecretToken: []byte(signed)}, nil
		},
		held: func(_ access.Caller, content map[string][]byte) (string, bool) {
			signed, ok := content[v1alpha1.ProxySecretToken]
			return string(signed), ok && len(content) == 1
		},
	}
}

// Setup registers the reconciler.
func (r *TokenSecrets) Setup(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named(strings.ReplaceAll(r.Kind.Name, "-", "")).
		For(&corev1.Namespace{}).
		WatchesRawSource(source.Kind(r.Secrets, &corev1.Secret{}, handler.TypedEnqueueRequestsFromMapFunc(r.ofSecret))).
		WatchesRawSource(source.TypedChannel(r.Changed, handler.TypedEnqueueRequestsFromMapFunc(r.optedIn))).
		WithOptions(ctrlopts.Options{MaxConcurrentReconciles: namespaceWorkers}).
		Complete(r)
}

func (r *TokenSecrets) ofSecret(_ context.Context, s *corev1.Secret) []reconcile.Request {
	if s.Name != r.Kind.Name {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: s.Namespace}}}
}

// optedIn is for the signal: a Connector may be visible elsewhere now, and a token no longer verify.
func (r *TokenSecrets) optedIn(ctx context.Context, _ struct{}) []reconcile.Request {
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

// Reconcile makes, renews or removes the Secret of one Namespace.
func (r *TokenSecrets) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var namespace corev1.Namespace
	if err := r.Client.Get(ctx, request.NamespacedName, &namespace); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if namespace.DeletionTimestamp != nil || namespace.Name == v1alpha1.SystemNamespace {
		return reconcile.Result{}, nil
	}
	var have corev1.Secret
	name := types.NamespacedName{Namespace: namespace.Name, Name: r.Kind.Name}
	err := r.Secrets.Get(ctx, name, &have)
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Result{}, fmt.Errorf("read Secret '%s': %w", name, err)
	}
	exists := err == nil
	if namespace.Labels[v1alpha1.LabelInject] != v1alpha1.InjectEnabled {
		return r.retire(ctx, &have, exists)
	}
	keys, ok := r.Keys()
	if !ok {
		return reconcile.Result{}, nil // the signal comes with them
	}
	return r.keep(ctx, &namespace, &have, exists, keys)
}

// retire removes the Secret of a Namespace that is not opted in, once its token has expired.
func (r *TokenSecrets) retire(ctx context.Context, have *corev1.Secret, exists bool) (reconcile.Result, error) {
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

// keep sees to it that the Secret holds a fresh token.
func (r *TokenSecrets) keep(ctx context.Context, namespace *corev1.Namespace, have *corev1.Secret, exists bool, keys token.Keys) (reconcile.Result, error) {
	now := r.Now()
	if exists && r.fresh(have, namespace, keys, now) {
		return reconcile.Result{RequeueAfter: stamp(have, v1alpha1.AnnotationRenew).Sub(now)}, nil
	}
	want, err := r.Kind.make(namespace, keys, now)
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
	return reconcile.Result{RequeueAfter: r.Kind.renew}, nil
}

func callerOf(namespace *corev1.Namespace) access.Caller {
	return access.Caller{Namespace: namespace.Name, Labels: namespace.Labels}
}

// fresh reports whether the Secret is as it should be, with a token that verifies and need not be renewed.
func (r *TokenSecrets) fresh(have *corev1.Secret, namespace *corev1.Namespace, keys token.Keys, now time.Time) bool {
	if !now.Before(stamp(have, v1alpha1.AnnotationRenew)) || have.Labels[v1alpha1.LabelManagedBy] != v1alpha1.FieldManager {
		return false
	}
	signed, ok := r.Kind.held(callerOf(namespace), have.Data)
	if !ok {
		return false
	}
	claims, err := keys.Public().Verify(signed, now, r.Kind.audience)
	return err == nil && claims.NamespaceUID == string(namespace.UID) && claims.Namespace == namespace.Name &&
		claims.Generation == namespace.Annotations[v1alpha1.AnnotationTokenGeneration]
}

// make returns a Secret with a new token.
func (k *TokenSecret) make(namespace *corev1.Namespace, keys token.Keys, now time.Time) (*corev1.Secret, error) {
	expires := now.Add(k.life)
	signed, err := keys.Sign(now, token.Claims{
		Namespace: namespace.Name, NamespaceUID: string(namespace.UID),
		Generation: namespace.Annotations[v1alpha1.AnnotationTokenGeneration],
		Audience:   k.audience, IssuedAt: now, Expires: expires,
	})
	if err != nil {
		return nil, err
	}
	content, err := k.content(callerOf(namespace), signed)
	if err != nil {
		return nil, fmt.Errorf("encode Secret '%s' of namespace '%s': %w", k.Name, namespace.Name, err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace.Name, Name: k.Name,
			Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.FieldManager},
			Annotations: map[string]string{
				v1alpha1.AnnotationExpires: expires.UTC().Format(time.RFC3339),
				v1alpha1.AnnotationRenew:   now.Add(k.renew).UTC().Format(time.RFC3339),
			},
		},
		Type: k.kind, Data: content,
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
