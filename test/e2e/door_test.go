package e2e_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/test/lab"
	"berth.dev/berth/token"
)

// request is a line of the upstream's access log.
type request struct {
	from, user, uri string
	status          int
}

func (w world) requests(log string) []request {
	w.Helper()
	var all []request
	for line := range strings.Lines(log) {
		var r struct {
			Remote, User, URI string
			Status            int
		}
		if json.Unmarshal([]byte(line), &r) != nil || r.Remote == "" {
			continue // of the registry's own log
		}
		host, _, err := net.SplitHostPort(r.Remote)
		w.ok(err)
		all = append(all, request{from: host, user: r.User, uri: r.URI, status: r.Status})
	}
	return all
}

// TestTokensAtTheDoor: no token but a namespace's own, in its time, opens anything.
func TestTokensAtTheDoor(t *testing.T) {
	w := enter(t)
	n, other := w.shop("door"), w.namespace("other", v1alpha1.LabelInject, v1alpha1.InjectEnabled)
	image := w.pushed()
	name, tag, _ := strings.Cut(image, ":")
	path := connectorPath(name + "/manifests/" + tag)
	good, err := w.Token(w.ctx, n.Name)
	w.ok(err)
	foreign, err := w.Token(w.ctx, other.Name)
	w.ok(err)
	keys := w.signingKeys()
	claims := token.Claims{
		Namespace: n.Name, NamespaceUID: string(n.UID), Audience: token.AudiencePull,
		IssuedAt: time.Now().Add(-2 * time.Hour), Expires: time.Now().Add(time.Hour),
	}
	sign := func(change func(*token.Claims)) string {
		c := claims
		change(&c)
		signed, err := keys.Sign(time.Now(), c)
		w.ok(err)
		return signed
	}
	stranger, _, _, err := token.Keys{}.Step(time.Now(), token.Rotation{Every: time.Hour, Keep: time.Hour})
	w.ok(err)
	forged, err := stranger.Sign(time.Now(), claims)
	w.ok(err)
	before := len(w.harborLog())
	for name, tc := range map[string]struct {
		token  string
		status int
		code   string
	}{
		"none":             {"", 401, "UNAUTHORIZED"},
		"not a token":      {"password", 401, "UNAUTHORIZED"},
		"forged":           {forged, 401, "UNAUTHORIZED"},
		"bent":             {good[:len(good)-8] + "AAAAAAAA", 401, "UNAUTHORIZED"},
		"expired":          {sign(func(c *token.Claims) { c.Expires = time.Now().Add(-time.Hour) }), 401, "UNAUTHORIZED"},
		"other audience":   {sign(func(c *token.Claims) { c.Audience = "else" }), 401, "UNAUTHORIZED"},
		"deleted namesake": {sign(func(c *token.Claims) { c.NamespaceUID = "0000" }), 401, "UNAUTHORIZED"},
		"other namespace":  {foreign, 403, "DENIED"},
	} {
		status, body, err := w.AskProxyWith(w.ctx, tc.token, "GET", path)
		w.ok(err)
		if status != tc.status || !strings.Contains(body, `"code":"`+tc.code+`"`) {
			t.Errorf("%s: %d, must be %d %s: %s", name, status, tc.status, tc.code, body)
		}
	}
	for _, r := range w.requests(w.harborLog()[before:]) {
		if strings.Contains(r.uri, name) {
			t.Errorf("upstream heard of it: %+v", r)
		}
	}
	if status, body, err := w.AskProxyWith(w.ctx, sign(func(*token.Claims) {}), "GET", path); err != nil || status != 200 {
		t.Errorf("a good token: %d, %v: %s", status, err, body)
	}
}

// TestPodTokensAtTheDoor: a Pod's own token opens what its namespace's does, and one that the cluster did not sign is
// known for what it is without a question to the API server, which would say only that it refuses it.
func TestPodTokensAtTheDoor(t *testing.T) {
	w := enter(t)
	n := w.shop("pod-token")
	name, tag, _ := strings.Cut(w.pushed(), ":")
	path := connectorPath(name + "/manifests/" + tag)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: n.Name, Name: "builder"}}
	w.ok(w.Client.Create(w.ctx, account))
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{v1alpha1.TokenAudience}}}
	w.ok(w.Client.SubResource("token").Create(w.ctx, account, request))
	_, key, err := ed25519.GenerateKey(rand.Reader)
	w.ok(err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: key, KeyID: "of nobody"}}, nil)
	w.ok(err)
	forged, err := jwt.Signed(signer).Claims(jwt.Claims{
		Subject:  "system:serviceaccount:" + n.Name + ":builder",
		Audience: jwt.Audience{v1alpha1.TokenAudience}, Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}).Serialize()
	w.ok(err)
	for what, tc := range map[string]struct {
		token, says string
		status      int
	}{
		"the Pod's": {token: request.Status.Token, status: http.StatusOK},
		"forged":    {token: forged, status: http.StatusUnauthorized, says: token.ErrUnknownKey.Error()},
	} {
		status, body, err := w.AskProxyWith(w.ctx, tc.token, http.MethodGet, path)
		w.ok(err)
		if status != tc.status || !strings.Contains(body, tc.says) {
			t.Errorf("%s: %d %s, want %d and '%s'", what, status, body, tc.status, tc.says)
		}
	}
}

func (w world) signingKeys() token.Keys {
	w.Helper()
	var s corev1.Secret
	w.ok(w.Client.Get(w.ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.TokenKeys}, &s))
	keys, err := token.ParseKeys(s.Data[v1alpha1.TokenKeysFile])
	w.ok(err)
	return keys
}

// TestNamesake: the token of a namespace that was deleted is worth nothing in the next of its name.
func TestNamesake(t *testing.T) {
	w := enter(t)
	first := w.shop("twin")
	old, err := w.Token(w.ctx, first.Name)
	w.ok(err)
	w.ok(w.Client.Delete(w.ctx, first.DeepCopy()))
	second := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: first.Name, Labels: first.Labels}}
	w.ok(lab.Wait(w.ctx, patience, "the namesake", func(ctx context.Context) (bool, error) {
		err := w.Client.Create(ctx, second)
		return err == nil, err
	}))
	fresh, err := w.Token(w.ctx, second.Name)
	w.ok(err)
	for text, want := range map[string]int{old: 401, fresh: 200} {
		w.ok(lab.Wait(w.ctx, patience, "the proxy to know the namesake", func(ctx context.Context) (bool, error) {
			status, _, err := w.AskProxyWith(ctx, text, "GET", "/v2/")
			return status == want, err
		}))
	}
}

// TestPathsAtTheDoor: what is not of the OCI grammar is refused before upstream hears of it.
func TestPathsAtTheDoor(t *testing.T) {
	w := enter(t)
	n := w.shop("paths")
	good, err := w.Token(w.ctx, n.Name)
	w.ok(err)
	before := len(w.harborLog())
	for _, path := range []string{
		connectorPath("../../../../v2/_catalog"),
		connectorPath("test/../secret/manifests/v1"),
		connectorPath("test/%2e%2e/secret/manifests/v1"),
		connectorPath("test%2fapp/manifests/v1"),
		connectorPath("test%5capp/manifests/v1"),
		connectorPath("test//app/manifests/v1"),
		connectorPath("test/./app/manifests/v1"),
		connectorPath("test/app/manifests/..%2f..%2fsecret"),
		"/v2/namespaces/berth-system/connectors/harbor/../../../_catalog",
	} {
		status, body, err := w.AskProxyWith(w.ctx, good, "GET", path)
		w.ok(err)
		if status != 400 && status != 404 || !strings.Contains(body, `"errors"`) {
			t.Errorf("%s: %d: %s", path, status, body)
		}
	}
	proxies := w.proxyAddresses()
	for _, r := range w.requests(w.harborLog()[before:]) {
		if proxies[r.from] {
			t.Errorf("upstream heard of it: %+v", r)
		}
	}
}

// TestFence: with the controller's own identity, no other Secret can be written.
func TestFence(t *testing.T) {
	w := enter(t)
	shop, plain := w.shop("fence"), w.namespace("fence")
	config := rest.CopyConfig(w.Config)
	config.Impersonate.UserName = "system:serviceaccount:berth-system:berth-controller"
	c, err := client.New(config, client.Options{Scheme: w.Client.Scheme()})
	w.ok(err)
	secret := func(namespace, name string, kind corev1.SecretType) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: kind,
			StringData: map[string]string{corev1.DockerConfigJsonKey: "{}"},
		}
	}
	for name, s := range map[string]*corev1.Secret{
		"another name":                    secret(shop.Name, "mine", corev1.SecretTypeDockerConfigJson),
		"another type":                    secret(shop.Name, v1alpha1.PullSecret, corev1.SecretTypeOpaque),
		"a namespace that did not opt in": secret(plain.Name, v1alpha1.PullSecret, corev1.SecretTypeDockerConfigJson),
		"kube-system":                     secret("kube-system", v1alpha1.PullSecret, corev1.SecretTypeDockerConfigJson),
		"another one of its own":          secret(v1alpha1.SystemNamespace, "mine", corev1.SecretTypeOpaque),
	} {
		if err := c.Create(w.ctx, s); !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var all corev1.SecretList
	if err := c.List(w.ctx, &all); !apierrors.IsForbidden(err) {
		t.Errorf("it may list all Secrets: %v", err)
	}
	var credential corev1.Secret
	if err := c.Get(w.ctx, client.ObjectKey{Namespace: plain.Name, Name: "any"}, &credential); !apierrors.IsForbidden(err) {
		t.Errorf("it may read any Secret: %v", err)
	}
}

// TestEvents: a namespace is told why it was refused, for a HEAD has no body to say it in.
func TestEvents(t *testing.T) {
	w := enter(t)
	n := w.shop("told")
	status, body, err := w.AskProxy(w.ctx, n.Name, http.MethodHead, connectorPath("secret/app/manifests/v1"))
	if err != nil || status != http.StatusForbidden || body != "" {
		t.Fatalf("%d %q, %v", status, body, err)
	}
	_, err = w.EventLike(w.ctx, n.Name, "RepositoryRefused", "may not use repository 'secret/app' of Connector 'berth-system/harbor'", patience)
	w.ok(err)
}
