package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/token"
)

// unwatched is a cache whose informers never tell of anything: what controllers do, a Signal had them do.
func unwatched(c client.Client) cache.Cache {
	return held{&informertest.FakeInformers{Scheme: c.Scheme()}, c}
}

// run runs the reconciler until the test ends.
func (r *TokenSecrets) run(t *testing.T) {
	t.Helper()
	mgr, err := ctrl.NewManager(&rest.Config{}, ctrl.Options{
		Scheme: r.Client.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: new(true)},
		MapperProvider: func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return r.Client.RESTMapper(), nil },
		NewCache:       func(*rest.Config, cache.Options) (cache.Cache, error) { return unwatched(r.Client), nil },
		NewClient:      func(*rest.Config, client.Options) (client.Client, error) { return r.Client, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Setup(mgr); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(t.Context()) }() // which ends before the cleanup
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestLostTokenKeys: where the keys are lost, opted-in Namespaces have tokens of the new ones as soon as these are published.
func TestLostTokenKeys(t *testing.T) {
	t.Parallel()
	for _, kind := range []TokenSecret{PullSecret(&access.Catalogue{}, "cluster.local"), ProxySecret()} {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			c := fake.NewClientBuilder().WithScheme(newScheme(t)).WithObjects(namespace(true)).Build()
			clock, changed := newClock(), NewSignal()
			keys := &TokenKeys{Client: c, Reader: c, Rotation: token.Rotation{Every: 24 * time.Hour, Keep: 48 * time.Hour}, Changed: changed.Give, Now: clock.Now}
			r := &TokenSecrets{Kind: kind, Client: c, Secrets: unwatched(c), Changed: changed, Keys: keys.Keys, Now: clock.Now}
			r.run(t)
			step(t, keys.step, start().Add(24*time.Hour))
			r.awaitGood(t)
			if err := c.Delete(t.Context(), &corev1.Secret{ObjectMeta: system(v1alpha1.TokenKeys)}); err != nil {
				t.Fatal(err)
			}
			step(t, keys.step, start().Add(24*time.Hour))
			r.awaitGood(t)
		})
	}
}

var errUnheld = errors.New("it holds no token")

// awaitGood waits for a token that verifies in the Secret of the Namespace 'shop'.
func (r *TokenSecrets) awaitGood(t *testing.T) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		last = r.verifies(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("Secret '%s': %v", r.Kind.Name, last)
	}
}

// verifies looks at the token in the Secret of the Namespace 'shop'.
func (r *TokenSecrets) verifies(ctx context.Context) error {
	var have corev1.Secret
	if err := r.Client.Get(ctx, client.ObjectKey{Namespace: "shop", Name: r.Kind.Name}, &have); err != nil {
		return fmt.Errorf("read it: %w", err)
	}
	signed, ok := r.Kind.held(callerOf(namespace(true)), have.Data)
	if !ok {
		return errUnheld
	}
	keys, _ := r.Keys()
	_, err := keys.Public().Verify(signed, r.Now(), r.Kind.audience)
	return err
}

// TestTokenKeysChanged: it is told when there are other keys, and not before they are published.
func TestTokenKeysChanged(t *testing.T) {
	t.Parallel()
	k, clock, writes := newTokenKeys(t)
	var told []string
	k.Changed = func() {
		keys, _ := k.Keys()
		told = append(told, keys.String())
		if _, err := k.published(t).Verify(signed(t, keys, clock.Now()), clock.Now(), token.AudiencePull); err != nil {
			t.Errorf("told of %s: %v", keys, err)
		}
	}
	var want []string
	for _, tc := range []struct {
		what   string
		before func()
		told   bool
	}{
		{"the first", func() {}, true},
		{"the same", func() { clock.pass(time.Minute) }, false},
		{"rotated", func() { clock.pass(24 * time.Hour) }, true},
		{"lost", func() {
			if err := k.Client.Delete(t.Context(), &corev1.Secret{ObjectMeta: system(v1alpha1.TokenKeys)}); err != nil {
				t.Fatal(err)
			}
			writes.fail = failing("ConfigMap")
			if _, err := k.step(t.Context()); !errors.Is(err, errOnce) {
				t.Fatalf("step = %v, want that the write fails", err)
			}
		}, true},
		{"the same again", func() {}, false},
	} {
		tc.before()
		if _, err := k.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if keys, _ := k.Keys(); tc.told {
			want = append(want, keys.String())
		}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Fatalf("%s (-want +told):\n%s", tc.what, diff)
		}
	}
}
