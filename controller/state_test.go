package controller

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
	"berth.dev/berth/token"
)

var errOnce = errors.New("the API server is away")

// failing fails the first write that is of that kind.
func failing(kind string) func(string) error {
	failed := false
	return func(write string) error {
		if failed || !strings.Contains(write, kind) {
			return nil
		}
		failed = true
		return errOnce
	}
}

func newTokenKeys(t *testing.T, objects ...client.Object) (*TokenKeys, *clock, *writes) {
	t.Helper()
	c, w := newCluster(t, objects...)
	clock := newClock()
	return &TokenKeys{
		Client: c, Reader: c, Rotation: token.Rotation{Every: 24 * time.Hour, Keep: 48 * time.Hour}, Changed: func() {}, Now: clock.Now,
	}, clock, w
}

// published are the keys that the proxies know.
func (k *TokenKeys) published(t *testing.T) token.PublicKeys {
	t.Helper()
	m := read(t, k.Reader, v1alpha1.SystemNamespace, v1alpha1.TokenKeys, &corev1.ConfigMap{})
	for _, text := range m.Data {
		if strings.Contains(text, `"d"`) {
			t.Fatal("a private key is published")
		}
	}
	keys, err := token.ParsePublicKeys([]byte(m.Data[v1alpha1.TokenKeysFile]))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func signed(t *testing.T, keys token.Keys, now time.Time) string {
	t.Helper()
	raw, err := keys.Sign(now, token.Claims{Namespace: "demo", NamespaceUID: "u", Audience: token.AudiencePull, IssuedAt: now, Expires: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTokenKeys(t *testing.T) {
	t.Parallel()
	k, clock, writes := newTokenKeys(t)
	if _, ok := k.Keys(); ok {
		t.Error("there are keys before the first step")
	}
	step(t, k.step, start().Add(24*time.Hour))
	if diff := cmp.Diff([]string{"create Secret berth-token-keys", "create ConfigMap berth-token-keys"}, writes.since()); diff != "" {
		t.Errorf("private before public (-want +got):\n%s", diff)
	}
	first, _ := k.Keys()
	raw := signed(t, first, clock.Now())
	step(t, k.step, start().Add(24*time.Hour))
	if again := writes.since(); again != nil {
		t.Errorf("written again: %v", again)
	}
	clock.pass(24 * time.Hour)
	step(t, k.step, start().Add(48*time.Hour))
	if diff := cmp.Diff([]string{"update Secret berth-token-keys", "update ConfigMap berth-token-keys"}, writes.since()); diff != "" {
		t.Errorf("rotation (-want +got):\n%s", diff)
	}
	rotated, _ := k.Keys()
	if first.String() == rotated.String() {
		t.Error("there is no new key")
	}
	for what, raw := range map[string]string{"of before": raw, "of now": signed(t, rotated, clock.Now()), "of later": signed(t, rotated, clock.Now().Add(2*token.PublishTime))} {
		if _, err := k.published(t).Verify(raw, start(), token.AudiencePull); err != nil && !errors.Is(err, token.ErrExpired) {
			t.Errorf("a token %s: %v", what, err)
		}
	}
}

func TestTokenKeysSurviveAFailure(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string][]string{
		"Secret":    {"create Secret berth-token-keys", "create ConfigMap berth-token-keys"},
		"ConfigMap": {"create Secret berth-token-keys", "create ConfigMap berth-token-keys"}, // the Secret is not written again
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			k, clock, writes := newTokenKeys(t)
			writes.fail = failing(kind)
			if _, err := k.step(t.Context()); !errors.Is(err, errOnce) {
				t.Fatalf("step = %v, want that the write fails", err)
			}
			if _, ok := k.Keys(); ok {
				t.Error("there are keys to sign with that the proxies do not know")
			}
			step(t, k.step, start().Add(24*time.Hour))
			if diff := cmp.Diff(want, writes.since()); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			keys, _ := k.Keys()
			if _, err := k.published(t).Verify(signed(t, keys, clock.Now()), clock.Now(), token.AudiencePull); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTokenKeysUnreadable(t *testing.T) {
	t.Parallel()
	k, _, writes := newTokenKeys(t, &corev1.Secret{ObjectMeta: system(v1alpha1.TokenKeys), Data: map[string][]byte{v1alpha1.TokenKeysFile: []byte("no JSON")}})
	if _, err := k.step(t.Context()); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("step = %v, must say what to do", err)
	}
	if list := writes.since(); list != nil {
		t.Errorf("written: %v", list)
	}
}

// step fails the test unless the step is well and asks for another at that time.
func step(t *testing.T, f func(context.Context) (time.Time, error), again time.Time) {
	t.Helper()
	got, err := f(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !got.Equal(again) {
		t.Errorf("asks again at %s, want %s", got, again)
	}
}

func service(addresses ...string) *corev1.Service {
	return &corev1.Service{ObjectMeta: system(v1alpha1.ProxyService), Spec: corev1.ServiceSpec{ClusterIPs: addresses}}
}

func newAuthority(t *testing.T, objects ...client.Object) (*Authority, *clock, *writes) {
	t.Helper()
	c, w := newCluster(t, objects...)
	clock := newClock()
	return &Authority{
		Client: c, Reader: c, Secret: v1alpha1.ProxyServing, Name: "Berth proxy",
		Scope: ProxyScope(c, "cluster.local"), Publish: PublishProxyCA(c, c), Now: clock.Now,
	}, clock, w
}

func (a *Authority) kept(t *testing.T) (authorities certs.Authorities, bundle string) {
	t.Helper()
	authorities, err := certs.ParseAuthorities(read(t, a.Reader, v1alpha1.SystemNamespace, v1alpha1.ProxyServing, &corev1.Secret{}).Data)
	if err != nil {
		t.Fatal(err)
	}
	bundle = read(t, a.Reader, v1alpha1.SystemNamespace, v1alpha1.ProxyCA, &corev1.ConfigMap{}).Data[v1alpha1.CACertKey]
	if bundle != string(authorities.Bundle()) {
		t.Errorf("what is published does not verify what is kept")
	}
	if strings.Contains(bundle, "PRIVATE") {
		t.Error("a private key is published")
	}
	return authorities, bundle
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	a, clock, writes := newAuthority(t, service("10.96.7.7", "fd00::7"))
	again, err := a.step(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"create ConfigMap berth-proxy-ca", "create Secret berth-proxy-serving"}, writes.since()); diff != "" {
		t.Errorf("published before it signs (-want +got):\n%s", diff)
	}
	first, bundle := a.kept(t)
	if want := (certs.Scope{Domains: []string{"svc.cluster.local", "svc"}, Addresses: []netip.Addr{netip.MustParseAddr("10.96.7.7"), netip.MustParseAddr("fd00::7")}}); !first[0].Scope().Equal(want) {
		t.Errorf("scope is %v, want %v", first[0].Scope(), want)
	}
	step(t, a.step, again)
	if list := writes.since(); list != nil {
		t.Errorf("written again: %v", list)
	}
	clock.pass(again.Sub(clock.Now()))
	if _, err := a.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"update ConfigMap berth-proxy-ca", "update Secret berth-proxy-serving"}, writes.since()); diff != "" {
		t.Errorf("rotation (-want +got):\n%s", diff)
	}
	if both, now := a.kept(t); len(both) != 2 || !strings.HasPrefix(now, bundle) {
		t.Errorf("%d generations, want the old one and a new one", len(both))
	}
}

func TestAuthorityAfterAFailure(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ConfigMap", "Secret"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			a, _, writes := newAuthority(t, service("10.96.7.7"))
			writes.fail = failing(kind)
			if _, err := a.step(t.Context()); !errors.Is(err, errOnce) {
				t.Fatalf("step = %v, want that the write fails", err)
			}
			if _, err := a.step(t.Context()); err != nil {
				t.Fatal(err)
			}
			a.kept(t)
		})
	}
}

func TestAuthorityOfAnotherScope(t *testing.T) {
	t.Parallel()
	a, clock, _ := newAuthority(t, service("10.96.7.7"))
	if _, err := a.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, before := a.kept(t)
	s := read(t, a.Reader, v1alpha1.SystemNamespace, v1alpha1.ProxyService, &corev1.Service{})
	s.Spec.ClusterIPs = []string{"10.96.7.8"}
	if err := a.Client.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	clock.pass(time.Minute)
	if _, err := a.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, bundle := a.kept(t)
	if len(after) != 1 || after[0].Scope().Addresses[0].String() != "10.96.7.8" || bundle == before {
		t.Errorf("authorities are %v, want one of the new address alone", after)
	}
}

func TestAuthorityThatCannotBe(t *testing.T) {
	t.Parallel()
	unreadable := &corev1.Secret{ObjectMeta: system(v1alpha1.ProxyServing), Data: map[string][]byte{"1.crt": []byte("x"), "1.key": []byte("hunter2")}}
	for name, tc := range map[string]struct {
		objects []client.Object
		says    string
	}{
		"headless Service":  {[]client.Object{service("None")}, "may not be headless"},
		"no Service":        {nil, "read Service 'berth-proxy'"},
		"unreadable Secret": {[]client.Object{service("10.96.7.7"), unreadable}, "Secret 'berth-proxy-serving'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, _, writes := newAuthority(t, tc.objects...)
			_, err := a.step(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("step = %v, must say '%s' and no key", err, tc.says)
			}
			if list := writes.since(); list != nil {
				t.Errorf("written: %v", list)
			}
		})
	}
}

func TestPublishWebhookCA(t *testing.T) {
	t.Parallel()
	c, writes := newCluster(t, &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.WebhookConfiguration},
		Webhooks:   []admissionv1.MutatingWebhook{{Name: "pods.berth.dev"}, {Name: "ephemeral.berth.dev", ClientConfig: admissionv1.WebhookClientConfig{CABundle: []byte("one")}}},
	})
	for _, tc := range []struct {
		bundle string
		want   []string
	}{
		{"one", []string{"update MutatingWebhookConfiguration berth"}},
		{"one", nil},
		{"two", []string{"update MutatingWebhookConfiguration berth"}},
		{"two", nil},
	} {
		if err := PublishWebhookCA(c, c)(t.Context(), []byte(tc.bundle)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, writes.since()); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
		for _, w := range read(t, c, "", v1alpha1.WebhookConfiguration, &admissionv1.MutatingWebhookConfiguration{}).Webhooks {
			if !bytes.Equal(w.ClientConfig.CABundle, []byte(tc.bundle)) {
				t.Errorf("'%s' has %q, want %q", w.Name, w.ClientConfig.CABundle, tc.bundle)
			}
		}
	}
}

// TestPrivateKeysStayInTheSecret looks for the very seed, however it were encoded.
func TestPrivateKeysStayInTheSecret(t *testing.T) {
	t.Parallel()
	k, _, _ := newTokenKeys(t)
	step(t, k.step, start().Add(24*time.Hour))
	var set struct {
		Keys []struct {
			S string `json:"d"`
		} `json:"keys"`
	}
	kept := read(t, k.Reader, v1alpha1.SystemNamespace, v1alpha1.TokenKeys, &corev1.Secret{})
	if err := json.Unmarshal(kept.Data[v1alpha1.TokenKeysFile], &set); err != nil || len(set.Keys) != 1 || len(set.Keys[0].S) < ed25519.SeedSize {
		t.Fatalf("the Secret holds no key: %v", err)
	}
	public := read(t, k.Reader, v1alpha1.SystemNamespace, v1alpha1.TokenKeys, &corev1.ConfigMap{})
	if strings.Contains(public.Data[v1alpha1.TokenKeysFile], set.Keys[0].S) {
		t.Error("the ConfigMap holds a private key")
	}
}
