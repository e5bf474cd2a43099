package controller

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

const (
	// lookAgain is how often what Berth keeps in its own namespace is looked at: a Secret that was deleted is made anew.
	lookAgain = time.Minute
	// tryAgain is how soon after a failure.
	tryAgain = 2 * time.Second
)

// repeat calls a step until the context ends: again when the step asks for it,
// but at the latest after lookAgain, and soon after a failure.
func repeat(ctx context.Context, what string, now func() time.Time, step func(context.Context) (again time.Time, err error)) error {
	for {
		wait := lookAgain
		again, err := step(ctx)
		if err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "try again", "what", what)
			wait = tryAgain
		} else {
			wait = min(wait, max(again.Sub(now()), tryAgain))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// readSecret returns a Secret of Berth's own namespace, or an empty one of that name.
func readSecret(ctx context.Context, reader client.Reader, name string) (*corev1.Secret, error) {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: name}}
	err := reader.Get(ctx, types.NamespacedName{Namespace: v1alpha1.SystemNamespace, Name: name}, s)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read Secret '%s': %w", name, err)
	}
	return s, nil
}

// writeSecret creates or updates a Secret as readSecret returned it, with new
// data. Another writer in between is an error, after which the step begins anew.
func writeSecret(ctx context.Context, c client.Client, s *corev1.Secret, data map[string][]byte) error {
	s.Data = data
	metav1.SetMetaDataLabel(&s.ObjectMeta, v1alpha1.LabelManagedBy, v1alpha1.FieldManager)
	write := func() error { return c.Update(ctx, s) }
	if s.ResourceVersion == "" {
		write = func() error { return c.Create(ctx, s) }
	}
	if err := write(); err != nil {
		return fmt.Errorf("write Secret '%s': %w", s.Name, err)
	}
	return nil
}

// publish keeps a ConfigMap of Berth's own namespace.
func publish(ctx context.Context, reader client.Reader, c client.Client, name string, data map[string]string) error {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: name}}
	err := reader.Get(ctx, client.ObjectKeyFromObject(m), m)
	if err == nil && maps.Equal(m.Data, data) {
		return nil
	}
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return fmt.Errorf("read ConfigMap '%s': %w", name, err)
	}
	m.Data = data
	metav1.SetMetaDataLabel(&m.ObjectMeta, v1alpha1.LabelManagedBy, v1alpha1.FieldManager)
	if missing {
		err = c.Create(ctx, m)
	} else {
		err = c.Update(ctx, m)
	}
	if err != nil {
		return fmt.Errorf("write ConfigMap '%s': %w", name, err)
	}
	return nil
}
