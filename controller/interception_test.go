package controller

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
)

// authorities returns what the Secret of 'demo/harbor' holds, and the bundle in its status.
func (s *scene) authorities(t *testing.T) (certs.Authorities, string) {
	t.Helper()
	stored := read(t, s.Client, v1alpha1.InterceptionNamespace, "demo.harbor", &corev1.Secret{})
	as, err := certs.ParseAuthorities(stored.Data)
	if err != nil {
		t.Fatal(err)
	}
	return as, read(t, s.Client, "demo", "harbor", &v1alpha1.Connector{}).Status.Proxy.InterceptionCABundle
}

func TestInterceptionAuthority(t *testing.T) {
	t.Parallel()
	far := newRegistry(t, nil)
	connector := harbor()
	connector.Spec.AddressExtensions = []v1alpha1.AddressExtension{
		{Name: "notary", Value: "https://notary.example.com"}, {Name: "same", Value: "https://example.com:8443"}, {Name: "address", Value: "https://10.0.0.9"},
	}
	s := newScene(t, far, connector)
	s.look(t)
	as, bundle := s.authorities(t)
	if len(as) != 1 || string(as.Bundle()) != bundle {
		t.Fatalf("%d authorities, bundle %s", len(as), bundle)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle))
	signs := func(names ...string) error {
		leaf, err := as[0].Leaf(s.clock.Now(), names, nil)
		if err != nil {
			t.Fatal(err)
		}
		intermediates := x509.NewCertPool()
		intermediate, _ := x509.ParseCertificate(leaf.Certificate[1])
		intermediates.AddCert(intermediate)
		_, err = leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: s.clock.Now(), DNSName: names[0]})
		return err
	}
	for name, good := range map[string]bool{"example.com": true, "notary.example.com": true, "harbor.example.net": false, "badexample.com": false, "com": false} {
		if err := signs(name); (err == nil) != good {
			t.Errorf("a certificate for '%s': %v", name, err)
		}
	}
	s.writes.since()
	s.look(t)
	if later, _ := s.authorities(t); !slices.Equal(s.writes.since(), nil) || string(later.Bundle()) != bundle {
		t.Error("a second look makes another")
	}
	// Its successor is in the bundle before it signs.
	s.clock.pass(250 * 24 * time.Hour)
	s.look(t)
	as, bundle = s.authorities(t)
	signing, _ := as.Signing(s.clock.Now())
	if len(as) != 2 || strings.Count(bundle, "BEGIN") != 2 || !signing.Created().Equal(as[0].Created()) {
		t.Errorf("%d authorities, %d in the bundle, %s signs", len(as), strings.Count(bundle, "BEGIN"), signing)
	}
}

// Nothing is signed by what is not published.
func TestInterceptionIsPublishedFirst(t *testing.T) {
	t.Parallel()
	s := newScene(t, newRegistry(t, nil), harbor())
	s.writes.fail = func(write string) error {
		if strings.Contains(write, "demo.harbor") && read(t, s.Client, "demo", "harbor", &v1alpha1.Connector{}).Status.Proxy.InterceptionCABundle == "" {
			t.Error("the authority is stored, and its bundle is not published")
		}
		return nil
	}
	s.look(t)
	if writes := s.writes.since(); !slices.Contains(writes, "create Secret demo.harbor") {
		t.Errorf("writes %v", writes)
	}
}

// A cache that has not seen the authority yet has nobody make another: the bundle
// would be published, and the proxies sign with the one before.
func TestInterceptionBehindTheCache(t *testing.T) {
	t.Parallel()
	s := newScene(t, newRegistry(t, nil), harbor())
	cluster, ok := s.Client.(client.WithWatch)
	if !ok {
		t.Fatal("the cluster cannot be watched")
	}
	s.Client = interceptor.NewClient(cluster, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, name client.ObjectKey, o client.Object, options ...client.GetOption) error {
			if name.Namespace == v1alpha1.InterceptionNamespace {
				return apierrors.NewNotFound(corev1.Resource("secrets"), name.Name)
			}
			return c.Get(ctx, name, o, options...)
		},
	})
	s.look(t)
	first := read(t, cluster, "demo", "harbor", &v1alpha1.Connector{}).Status.Proxy.InterceptionCABundle
	s.look(t)
	if second := read(t, cluster, "demo", "harbor", &v1alpha1.Connector{}).Status.Proxy.InterceptionCABundle; second != first || first == "" {
		t.Errorf("first\n%s\nthen\n%s", first, second)
	}
}

// A deleted Connector takes its authority along, and a namesake does not inherit it.
func TestInterceptionOfDeletedConnectors(t *testing.T) {
	t.Parallel()
	s := newScene(t, newRegistry(t, nil), harbor())
	s.look(t)
	_, first := s.authorities(t)
	request := reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "demo", Name: "harbor"}}
	c := read(t, s.Client, "demo", "harbor", &v1alpha1.Connector{})
	if err := s.Client.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	namesake := harbor()
	namesake.UID = "another-uid"
	if err := s.Client.Create(t.Context(), namesake); err != nil {
		t.Fatal(err)
	}
	s.look(t)
	if as, second := s.authorities(t); second == first || len(as) != 1 {
		t.Error("the namesake has the same authority")
	}
	if err := s.Client.Delete(t.Context(), namesake); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reconcile(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if err := s.Client.Get(t.Context(), types.NamespacedName{Namespace: v1alpha1.InterceptionNamespace, Name: "demo.harbor"}, &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Errorf("the authority is still there: %v", err)
	}
}

func TestInterceptedConnector(t *testing.T) {
	t.Parallel()
	s := &corev1.Secret{}
	s.Namespace, s.Name, s.Labels = v1alpha1.InterceptionNamespace, "team-a.harbor", map[string]string{v1alpha1.LabelConnectorUID: "uid"}
	c, uid, ok := InterceptedConnector(s)
	if diff := cmp.Diff("team-a/harbor uid", c.String()+" "+string(uid)); diff != "" || !ok || InterceptionSecret(c) != s.Name {
		t.Errorf("%t %s", ok, diff)
	}
	s.Namespace = "team-a"
	if _, _, ok := InterceptedConnector(s); ok {
		t.Error("a Secret of another namespace is taken for an authority")
	}
}
