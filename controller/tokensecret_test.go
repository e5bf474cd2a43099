package controller

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/token"
)

// shop is a world with the Namespace 'shop'.
type shop struct {
	*TokenSecrets

	connectors *access.Catalogue

	clock  *clock
	writes *writes
	keys   token.Keys
}

func namespace(optedIn bool) *corev1.Namespace {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "shop-uid", Labels: map[string]string{"team": "payments"}}}
	if optedIn {
		n.Labels[v1alpha1.LabelInject] = v1alpha1.InjectEnabled
	}
	return n
}

// held is a cache that reads from a cluster.
type held struct {
	cache.Cache
	reader client.Reader
}

func (h held) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	return h.reader.Get(ctx, key, o, options...)
}

func newShop(t *testing.T, objects ...client.Object) *shop {
	t.Helper()
	c, w := newCluster(t, objects...)
	s := &shop{clock: newClock(), writes: w, connectors: &access.Catalogue{}}
	s.turn(t)
	s.TokenSecrets = &TokenSecrets{
		Kind: PullSecret(s.connectors, "cluster.local"), Client: c, Secrets: held{reader: c}, Now: s.clock.Now,
		Keys: func() (token.Keys, bool) { return s.keys, true },
	}
	return s
}

// turn makes other keys.
func (s *shop) turn(t *testing.T) {
	t.Helper()
	keys, _, _, err := token.Keys{}.Step(s.clock.Now(), token.Rotation{Every: time.Hour, Keep: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	s.keys = keys
}

func (s *shop) connect(t *testing.T, namespace string, rules ...v1alpha1.AccessRule) {
	t.Helper()
	c, err := access.New(&v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "harbor"},
		Spec:       v1alpha1.ConnectorSpec{Address: "https://example.com", Access: rules},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.connectors.Put(c)
}

// look reconciles the Namespace, and fails the test unless it is to be looked at again after so long, and just that was written.
func (s *shop) look(t *testing.T, again time.Duration, writes ...string) {
	t.Helper()
	result, err := s.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: "shop"}})
	if err != nil {
		t.Fatal(err)
	}
	if result.RequeueAfter != again {
		t.Errorf("looked at again after %s, want %s", result.RequeueAfter, again)
	}
	if diff := cmp.Diff(writes, s.writes.since()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

// holds fails the test unless the Secret has a good token for just these hosts.
func (s *shop) holds(t *testing.T, uid types.UID, hosts ...string) *corev1.Secret {
	t.Helper()
	have := read(t, s.Client, "shop", v1alpha1.PullSecret, &corev1.Secret{})
	var config dockerConfig
	if err := json.Unmarshal(have.Data[corev1.DockerConfigJsonKey], &config); err != nil || have.Type != corev1.SecretTypeDockerConfigJson {
		t.Fatalf("the Secret is of type '%s', %v", have.Type, err)
	}
	if diff := cmp.Diff(hosts, slices.Sorted(maps.Keys(config.Auths))); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	for host, auth := range config.Auths {
		claims, err := s.keys.Public().Verify(auth.Password, s.clock.Now(), token.AudiencePull)
		if err != nil || claims.Namespace != "shop" || claims.NamespaceUID != string(uid) || !claims.Expires.Equal(claims.IssuedAt.Add(PullTokenLife)) {
			t.Errorf("'%s' has a token of %+v, %v", host, claims, err)
		}
	}
	return have
}

const (
	create = "create Secret berth-pull"
	renew  = "update Secret berth-pull"
	own    = "c-*.shop.svc.cluster.local"
)

func TestPullSecretRenewed(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]struct {
		so    func(*testing.T, *shop)
		uid   types.UID
		hosts []string
	}{
		"token is old": {func(_ *testing.T, s *shop) { s.clock.pass(pullTokenRenew - time.Minute) }, "shop-uid", []string{own}},
		"other keys":   {func(t *testing.T, s *shop) { t.Helper(); s.turn(t) }, "shop-uid", []string{own}},
		"other Connector": {func(t *testing.T, s *shop) {
			t.Helper()
			s.connect(t, "central", v1alpha1.AccessRule{Namespaces: v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromAll}})
			s.connect(t, "closed")
		}, "shop-uid", []string{"c-*.central.svc.cluster.local", own}},
		"namesake": {func(t *testing.T, s *shop) {
			t.Helper()
			n := read(t, s.Client, "", "shop", &corev1.Namespace{})
			n.UID = "another-uid"
			edit(t, s.Client, n)
			s.writes.since()
		}, "another-uid", []string{own}},
		"spoilt": {func(t *testing.T, s *shop) {
			t.Helper()
			have := read(t, s.Client, "shop", v1alpha1.PullSecret, &corev1.Secret{})
			have.Data[corev1.DockerConfigJsonKey] = []byte(`{"auths":{"c-*.shop.svc.cluster.local":{"password":"x"}}}`)
			edit(t, s.Client, have)
			s.writes.since()
		}, "shop-uid", []string{own}},
		"label taken away": {func(t *testing.T, s *shop) {
			t.Helper()
			have := read(t, s.Client, "shop", v1alpha1.PullSecret, &corev1.Secret{})
			have.Labels = nil
			edit(t, s.Client, have)
			s.writes.since()
		}, "shop-uid", []string{own}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, namespace(true))
			s.look(t, pullTokenRenew, create)
			first := s.holds(t, "shop-uid", own)
			// The fake API server gives no UID; a real one's stays as long as the Secret is updated.
			s.clock.pass(time.Minute)
			s.look(t, pullTokenRenew-time.Minute)
			change.so(t, s)
			s.look(t, pullTokenRenew, renew)
			second := s.holds(t, change.uid, change.hosts...)
			if first.UID != second.UID || !first.CreationTimestamp.Equal(&second.CreationTimestamp) {
				t.Error("the Secret was made anew, and kubelet forgets what it pulled with it")
			}
			s.look(t, pullTokenRenew)
		})
	}
}

func edit(t *testing.T, c client.Client, o client.Object) {
	t.Helper()
	if err := c.Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func TestPullSecretNotMade(t *testing.T) {
	t.Parallel()
	going := namespace(true)
	going.DeletionTimestamp, going.Finalizers = &metav1.Time{Time: start()}, []string{"kubernetes"}
	elsewhere := namespace(true)
	elsewhere.Name = "elsewhere"
	for name, n := range map[string]*corev1.Namespace{"not opted in": namespace(false), "going": going, "gone": elsewhere} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newShop(t, n).look(t, 0)
		})
	}
	t.Run("no keys yet", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, namespace(true))
		s.Keys = func() (token.Keys, bool) { return token.Keys{}, false }
		s.look(t, 0)
	})
}

func TestPullSecretRetired(t *testing.T) {
	t.Parallel()
	s := newShop(t, namespace(true))
	s.look(t, pullTokenRenew, create)
	n := read(t, s.Client, "", "shop", &corev1.Namespace{})
	delete(n.Labels, v1alpha1.LabelInject)
	edit(t, s.Client, n)
	s.writes.since()
	s.clock.pass(time.Hour)
	s.look(t, PullTokenLife-time.Hour)
	s.clock.pass(PullTokenLife - time.Hour)
	s.look(t, 0, "delete Secret berth-pull")
	s.look(t, 0)
}

func TestForeignPullSecretIsNotRetired(t *testing.T) {
	t.Parallel()
	s := newShop(t, namespace(false), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: v1alpha1.PullSecret}})
	s.look(t, 0)
}

func TestPullSecretConflict(t *testing.T) {
	t.Parallel()
	resource := corev1.Resource("secrets")
	for name, err := range map[string]error{
		"made meanwhile":    apierrors.NewAlreadyExists(resource, v1alpha1.PullSecret),
		"changed meanwhile": apierrors.NewConflict(resource, v1alpha1.PullSecret, errOnce),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, namespace(true))
			s.writes.fail = func(string) error { return err }
			s.look(t, conflictWait)
		})
	}
}

func TestProxySecret(t *testing.T) {
	t.Parallel()
	s := newShop(t, namespace(true))
	s.Kind = ProxySecret()
	s.look(t, proxyTokenRenew, "create Secret berth-proxy")
	verify := func(want time.Time) {
		t.Helper()
		have := read(t, s.Client, "shop", v1alpha1.ProxySecret, &corev1.Secret{})
		claims, err := s.keys.Public().Verify(string(have.Data[v1alpha1.ProxySecretToken]), s.clock.Now(), token.AudienceProxy)
		if err != nil || claims.Namespace != "shop" || !claims.Expires.Equal(want) || len(have.Data) != 1 || have.Type != corev1.SecretTypeOpaque {
			t.Errorf("%+v, %v, type '%s'", claims, err, have.Type)
		}
		if _, err := s.keys.Public().Verify(string(have.Data[v1alpha1.ProxySecretToken]), s.clock.Now(), token.AudiencePull); err == nil {
			t.Error("the token is good for kubelet's pulls")
		}
	}
	verify(start().Add(ProxyTokenLife))
	s.connect(t, "central", v1alpha1.AccessRule{Namespaces: v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromAll}})
	s.look(t, proxyTokenRenew) // it does not depend on Connectors
	s.clock.pass(proxyTokenRenew)
	s.look(t, proxyTokenRenew, "update Secret berth-proxy")
	verify(start().Add(proxyTokenRenew + ProxyTokenLife))

	have := read(t, s.Client, "shop", v1alpha1.ProxySecret, &corev1.Secret{})
	have.Data["more"] = []byte("x")
	edit(t, s.Client, have)
	s.writes.since()
	s.look(t, proxyTokenRenew, "update Secret berth-proxy")
}
