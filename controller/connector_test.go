package controller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/egress"
	"berth.dev/berth/route"
	"berth.dev/berth/secret"
)

// good are the conditions of a Connector that lacks nothing.
func good() map[string]string {
	return map[string]string{
		v1alpha1.ConditionConnectorClassReady: "True Found", v1alpha1.ConditionSecretReady: "True Found", v1alpha1.ConditionCACertReady: "True Found",
		v1alpha1.ConditionProxyReady: "True Serving", v1alpha1.ConditionLivenessReady: "True Answered", v1alpha1.ConditionAuthReady: "True Accepted",
		v1alpha1.ConditionReady: "True Ready",
	}
}

const blocked = "Unknown Blocked"

func TestConditions(t *testing.T) {
	t.Parallel()
	problem := func(reason string) error {
		return &secret.Problem{Secret: types.NamespacedName{Namespace: "demo", Name: "login"}, Reason: reason, Detail: "as the test wants"}
	}
	for name, tc := range map[string]struct {
		change func(*scene, *v1alpha1.Connector)
		want   map[string]string // what is not as in good
		says   string            // in the message of Ready
	}{
		"good": {func(*scene, *v1alpha1.Connector) {}, nil, "can use"},
		"class missing": {
			func(_ *scene, c *v1alpha1.Connector) { c.Spec.ConnectorClassName = "none" },
			map[string]string{"ConnectorClassReady": "False ClassNotFound", "SecretReady": blocked, "LivenessReady": blocked, "AuthReady": blocked, "Ready": "False ClassNotFound"},
			"'none'",
		},
		"way to sign in not taken": {
			func(_ *scene, c *v1alpha1.Connector) { c.Spec.Auth.Name = "kerberos" },
			map[string]string{"ConnectorClassReady": "False AuthNotSupported", "SecretReady": blocked, "LivenessReady": blocked, "AuthReady": blocked, "Ready": "False AuthNotSupported"},
			"'kerberos'",
		},
		"no credential": {
			func(_ *scene, c *v1alpha1.Connector) { c.Spec.Auth = nil },
			map[string]string{"SecretReady": "True NotNeeded", "AuthReady": "True NotNeeded"},
			"can use",
		},
		"no CA": { // and so the registry's certificate does not verify
			func(_ *scene, c *v1alpha1.Connector) { c.Spec.CACertSecretRef = nil },
			map[string]string{"CACertReady": "True NotNeeded", "LivenessReady": "False Unreachable", "AuthReady": blocked, "Ready": "False Unreachable"},
			"certificate",
		},
		"Secret missing": {
			func(s *scene, _ *v1alpha1.Connector) { delete(s.secrets.held, "login") },
			map[string]string{"SecretReady": "False SecretNotFound", "AuthReady": blocked, "Ready": "False SecretNotFound"},
			"'demo/login'",
		},
		"Secret forbidden": {
			func(s *scene, _ *v1alpha1.Connector) {
				s.secrets.problems["login"] = problem(v1alpha1.ReasonSecretForbidden)
			},
			map[string]string{"SecretReady": "False SecretForbidden", "AuthReady": blocked, "Ready": "False SecretForbidden"},
			"kubectl -n demo create role berth-reader-harbor --verb=get,list,watch --resource=secrets --resource-name=login --resource-name=ca && ",
		},
		"Secret unreadable": {
			func(s *scene, _ *v1alpha1.Connector) {
				s.secrets.problems["login"] = problem(v1alpha1.ReasonSecretUnreadable)
			},
			map[string]string{"SecretReady": "False SecretUnreadable", "AuthReady": blocked, "Ready": "False SecretUnreadable"},
			"as the test wants",
		},
		"Secret of another type": {
			func(s *scene, _ *v1alpha1.Connector) { s.secrets.held["login"].Type = corev1.SecretTypeOpaque },
			map[string]string{"SecretReady": "False SecretTypeWrong", "AuthReady": blocked, "Ready": "False SecretTypeWrong"},
			"kubernetes.io/basic-auth",
		},
		"Secret without user name": {
			func(s *scene, _ *v1alpha1.Connector) { s.secrets.held["login"].Data["username"] = nil },
			map[string]string{"SecretReady": "False SecretEmpty", "AuthReady": blocked, "Ready": "False SecretEmpty"},
			"`username`",
		},
		"Secret of the CA missing": {
			func(s *scene, _ *v1alpha1.Connector) { delete(s.secrets.held, "ca") },
			map[string]string{"CACertReady": "False SecretNotFound", "LivenessReady": blocked, "AuthReady": blocked, "Ready": "False SecretNotFound"},
			"'demo/ca'",
		},
		"CA invalid": {
			func(s *scene, _ *v1alpha1.Connector) { s.secrets.held["ca"] = authority("no PEM") },
			map[string]string{"CACertReady": "False CertificateInvalid", "LivenessReady": blocked, "AuthReady": blocked, "Ready": "False CertificateInvalid"},
			"`ca.crt`",
		},
		"CA empty": {
			func(s *scene, _ *v1alpha1.Connector) { s.secrets.held["ca"] = authority("") },
			map[string]string{"CACertReady": "False SecretEmpty", "LivenessReady": blocked, "AuthReady": blocked, "Ready": "False SecretEmpty"},
			"`ca.crt`",
		},
		"no proxy CA yet": {
			func(s *scene, _ *v1alpha1.Connector) {
				_ = s.Client.Delete(context.Background(), &corev1.ConfigMap{ObjectMeta: system(v1alpha1.ProxyCA)}) //nolint:forbidigo // the test's own
			},
			map[string]string{"ProxyReady": "False AuthorityPending", "Ready": "False AuthorityPending"},
			v1alpha1.ProxyCA,
		},
		"registry down": {
			func(s *scene, _ *v1alpha1.Connector) { s.registry.Close() },
			map[string]string{"LivenessReady": "False Unreachable", "AuthReady": blocked, "Ready": "False Unreachable"},
			"refused",
		},
		"address forbidden": {
			func(s *scene, _ *v1alpha1.Connector) { s.Dial = dialForbidden },
			map[string]string{"LivenessReady": "False AddressForbidden", "AuthReady": blocked, "Ready": "False AddressForbidden"},
			"127.0.0.1",
		},
		"registry broken":         {answers(503, 200), map[string]string{"LivenessReady": "False ServerError", "AuthReady": blocked, "Ready": "False ServerError"}, "503"},
		"registry without paths":  {answers(404, 200), nil, "can use"},
		"credential refused":      {answers(401, 401), map[string]string{"AuthReady": "False CredentialRefused", "Ready": "False CredentialRefused"}, "Secret 'login'"},
		"credential forbidden":    {answers(200, 403), map[string]string{"AuthReady": "False CredentialRefused", "Ready": "False CredentialRefused"}, "403"},
		"another kind of server":  {answers(200, 404), map[string]string{"AuthReady": "False UnexpectedAnswer", "Ready": "False UnexpectedAnswer"}, "connectorClassName"},
		"redirected to a login":   {answers(200, 302), map[string]string{"AuthReady": "False UnexpectedAnswer", "Ready": "False UnexpectedAnswer"}, "302"},
		"broken when it signs in": {answers(200, 500), map[string]string{"AuthReady": "False UnexpectedAnswer", "Ready": "False UnexpectedAnswer"}, "500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := harbor()
			s := newScene(t, newRegistry(t, nil), c)
			tc.change(s, c)
			if err := s.Client.Update(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			want := good()
			maps.Copy(want, tc.want)
			if diff := cmp.Diff(want, s.look(t)); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if message := s.message(t, v1alpha1.ConditionReady); !strings.Contains(message, tc.says) {
				t.Errorf("Ready says '%s', must say '%s'", message, tc.says)
			}
		})
	}
}

func answers(alive, auth int) func(*scene, *v1alpha1.Connector) {
	return func(s *scene, _ *v1alpha1.Connector) { s.registry.answer(alive, auth) }
}

func dialForbidden(context.Context, string, string) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%w: 127.0.0.1", egress.ErrForbidden)}
}

// Docker Hub is asked where the proxy asks it.
func TestProbeOfDockerHub(t *testing.T) {
	t.Parallel()
	c := harbor()
	c.Spec.Address = "https://docker.io"
	s := newScene(t, newRegistry(t, nil), c)
	var dialled string
	s.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = address
		return dialForbidden(t.Context(), "tcp", address)
	}
	s.look(t)
	if want := "registry-1.docker.io:443"; dialled != want {
		t.Errorf("dialled '%s', want '%s'", dialled, want)
	}
}

// TestStatusIsWrittenOnlyWhenItChanges also where an error tells the time or a port.
func TestStatusIsWrittenOnlyWhenItChanges(t *testing.T) {
	t.Parallel()
	for name, far := range map[string]func(*testing.T) *registry{
		"good":    func(t *testing.T) *registry { t.Helper(); return newRegistry(t, nil) },
		"refused": func(t *testing.T) *registry { t.Helper(); r := newRegistry(t, nil); r.Close(); return r },
		"old TLS": func(t *testing.T) *registry {
			t.Helper()
			return newRegistry(t, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 })
		},
		"client certificate": func(t *testing.T) *registry {
			t.Helper()
			return newRegistry(t, func(c *tls.Config) { c.MaxVersion, c.ClientAuth = tls.VersionTLS12, tls.RequireAnyClientCert })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, far(t), harbor())
			s.look(t)
			before := read(t, s.Client, "demo", "harbor", &v1alpha1.Connector{}).ResourceVersion
			s.clock.pass(time.Hour)
			s.look(t)
			if after := read(t, s.Client, "demo", "harbor", &v1alpha1.Connector{}).ResourceVersion; before != after {
				t.Errorf("the status was written again: %s", s.message(t, v1alpha1.ConditionReady))
			}
		})
	}
}

func TestCauseIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	expired := &x509.Certificate{NotBefore: start(), NotAfter: start().Add(time.Hour)}
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"expired": {
			&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Cert: expired, Reason: x509.Expired, Detail: "current time " + time.Now().String()}},
			"the certificate '' is good from 2026-03-01T12:00:00Z until 2026-03-01T13:00:00Z only",
		},
		"alert":     {&net.OpError{Op: "remote error", Err: tls.AlertError(40)}, "remote error: tls: handshake failure"},
		"look-up":   {&net.OpError{Op: "dial", Err: &net.DNSError{Name: "example.com", Err: "no such host", Server: "10.0.0.1:53"}}, "look up 'example.com': no such host"},
		"broken":    {&net.OpError{Op: "read", Source: &net.TCPAddr{Port: 41234}, Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 443}, Err: net.ErrClosed}, "read 10.0.0.1:443: use of closed network connection"},
		"something": {http.ErrNotSupported, http.ErrNotSupported.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, cause(t.Context(), tc.err).Error()); diff != "" {
				t.Errorf("cause (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRefusedCredentialIsNotTriedAgain because a registry locks an account after some attempts.
func TestRefusedCredentialIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	s := newScene(t, newRegistry(t, nil), harbor())
	s.registry.answer(200, 401)
	expect := func(when string, attempts int, auth string) {
		t.Helper()
		if got := s.look(t)[v1alpha1.ConditionAuthReady]; got != auth {
			t.Errorf("%s: AuthReady is %s, want %s", when, got, auth)
		}
		if got := s.registry.tried(); got != attempts {
			t.Errorf("%s: %d attempts, want %d", when, got, attempts)
		}
	}
	const refused = "False CredentialRefused"
	expect("at first", 1, refused)
	s.clock.pass(refusalTime - time.Second)
	expect("soon", 1, refused)
	s.registry.answer(503, 401)
	expect("while the registry is down", 1, blocked)
	s.registry.answer(200, 401)
	expect("when it is back", 1, refused)
	s.clock.pass(time.Second)
	expect("after the time", 2, refused)
	s.secrets.held["login"] = login("2")
	expect("after the Secret changed", 3, refused)
	expect("soon after", 3, refused)
	s.secrets.held["login"] = login("3")
	s.registry.answer(200, 200)
	expect("corrected", 4, "True Accepted")
	expect("good", 5, "True Accepted")
}

func TestConnectorService(t *testing.T) {
	t.Parallel()
	const leadsTo = "berth-proxy.berth-system.svc.cluster.local"
	foreign := func(change func(*corev1.Service)) *corev1.Service {
		s := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "c-harbor"},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: leadsTo},
		}
		change(s)
		return s
	}
	owned := func(s *corev1.Service) {
		s.OwnerReferences = []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion().String(), Kind: "Connector", Name: "harbor", UID: "harbor-uid", Controller: new(true)}}
	}
	for name, tc := range map[string]struct {
		have *corev1.Service
		want string
	}{
		"there is none":         {nil, "True Serving"},
		"ours":                  {foreign(owned), "True Serving"},
		"somebody else's":       {foreign(func(*corev1.Service) {}), "False ServiceTaken"},
		"of a deleted namesake": {foreign(func(s *corev1.Service) { owned(s); s.OwnerReferences[0].UID = "older" }), "False ServiceTaken"},
		"repointed":             {foreign(func(s *corev1.Service) { owned(s); s.Spec.ExternalName = "evil.example.com" }), "False ServiceTaken"},
		"of another type":       {foreign(func(s *corev1.Service) { owned(s); s.Spec.Type = corev1.ServiceTypeClusterIP }), "False ServiceTaken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var more []client.Object
			if tc.have != nil {
				more = append(more, tc.have)
			}
			s := newScene(t, newRegistry(t, nil), harbor(), more...)
			for range 2 {
				if got := s.look(t)[v1alpha1.ConditionProxyReady]; got != tc.want {
					t.Errorf("ProxyReady is %s, want %s", got, tc.want)
				}
			}
			got := read(t, s.Client, "demo", "c-harbor", &corev1.Service{})
			if tc.have == nil {
				if !metav1.IsControlledBy(got, harbor()) || got.Spec.ExternalName != leadsTo || got.Labels[v1alpha1.LabelManagedBy] != v1alpha1.FieldManager {
					t.Errorf("the Service is not as it should be: %+v", got)
				}
			} else if diff := cmp.Diff(tc.have.Spec, got.Spec); diff != "" || !cmp.Equal(tc.have.ObjectMeta, got.ObjectMeta) {
				t.Errorf("the Service was changed (-before +after):\n%s", diff)
			}
			address := read(t, s.Client, "demo", "harbor", &v1alpha1.Connector{}).Status.Proxy.HTTPAddress
			if diff := cmp.Diff(&v1alpha1.ProxyAddress{
				URL: "https://c-harbor.demo.svc.cluster.local/namespaces/demo/connectors/harbor", CABundle: "proxy ca",
			}, address); diff != "" {
				t.Errorf("httpAddress (-want +got):\n%s", diff)
			}
		})
	}
}

// TestServiceNotCachedYet: the cache does not show our own Service of a moment ago.
func TestServiceNotCachedYet(t *testing.T) {
	t.Parallel()
	s := newScene(t, newRegistry(t, nil), harbor())
	s.look(t)
	behind, ok := s.Client.(client.WithWatch)
	if !ok {
		t.Fatalf("the client is %T", s.Client)
	}
	s.Client = interceptor.NewClient(behind, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			if _, service := o.(*corev1.Service); service {
				return apierrors.NewNotFound(corev1.Resource("services"), key.Name)
			}
			return c.Get(ctx, key, o, options...)
		},
	})
	if got := s.look(t)[v1alpha1.ConditionProxyReady]; got != "True Serving" {
		t.Errorf("ProxyReady is %s", got)
	}
}

func TestConnectorThatGoes(t *testing.T) {
	t.Parallel()
	name := types.NamespacedName{Namespace: "demo", Name: "harbor"}
	going := harbor()
	going.DeletionTimestamp, going.Finalizers = &metav1.Time{Time: start()}, []string{metav1.FinalizerDeleteDependents}
	for what, s := range map[string]*scene{
		"gone":                     newScene(t, newRegistry(t, nil), &v1alpha1.Connector{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "other"}}),
		"waits for its dependents": newScene(t, newRegistry(t, nil), going),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s.secrets.Follow(route.Connector{Namespace: "demo", Name: "harbor"}, types.NamespacedName{Namespace: "demo", Name: "login"})
			if result, err := s.Reconcile(t.Context(), reconcile.Request{NamespacedName: name}); err != nil || !result.IsZero() {
				t.Errorf("Reconcile = %+v, %v", result, err)
			}
			if owners := s.secrets.Owners(types.NamespacedName{Namespace: "demo", Name: "login"}); len(owners) > 0 {
				t.Errorf("%v follow the Secret still", owners)
			}
			if diff := cmp.Diff([]string(nil), s.writes.since()); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
		})
	}
}
