package controller

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
	"berth.dev/berth/secret"
)

const (
	user     = "robot-puller"
	password = "hunter2-hunter2"
)

// start is a time of whole seconds, as certificates and tokens have them.
func start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// clock goes on only when a test says so.
type clock struct{ nanoseconds atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanoseconds.Store(start().UnixNano())
	return c
}

func (c *clock) Now() time.Time        { return time.Unix(0, c.nanoseconds.Load()).UTC() }
func (c *clock) pass(by time.Duration) { c.nanoseconds.Add(int64(by)) }

func newScheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

// writes counts what a client writes, and fails a write where a test wants it.
type writes struct {
	list []string // such as 'create Secret berth-pull'
	fail func(write string) error
}

func (w *writes) note(verb string, o client.Object, scheme *runtime.Scheme, write func() error) error {
	kinds, _, err := scheme.ObjectKinds(o)
	if err != nil {
		return err
	}
	what := verb + " " + kinds[0].Kind + " " + o.GetName()
	if w.fail != nil {
		if err := w.fail(what); err != nil {
			return err
		}
	}
	w.list = append(w.list, what)
	return write()
}

// since returns what was written since the last call.
func (w *writes) since() []string {
	list := w.list
	w.list = nil
	return list
}

func newCluster(t testing.TB, objects ...client.Object) (client.WithWatch, *writes) {
	t.Helper()
	w := &writes{}
	return fake.NewClientBuilder().WithScheme(newScheme(t)).WithStatusSubresource(&v1alpha1.Connector{}).WithObjects(objects...).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
				return w.note("create", o, c.Scheme(), func() error { return c.Create(ctx, o, options...) })
			},
			Update: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.UpdateOption) error {
				return w.note("update", o, c.Scheme(), func() error { return c.Update(ctx, o, options...) })
			},
			Delete: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.DeleteOption) error {
				return w.note("delete", o, c.Scheme(), func() error { return c.Delete(ctx, o, options...) })
			},
		}).Build(), w
}

// system names an object of Berth's own namespace.
func system(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: v1alpha1.SystemNamespace, Name: name}
}

func read[T client.Object](t testing.TB, c client.Reader, namespace, name string, into T) T {
	t.Helper()
	if err := c.Get(t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, into); err != nil {
		t.Fatal(err)
	}
	return into
}

// secrets stand in for a *secret.Follower.
type secrets struct {
	held     map[string]*corev1.Secret
	problems map[string]error
	followed map[route.Connector][]types.NamespacedName
}

func (s *secrets) Follow(owner route.Connector, names ...types.NamespacedName) {
	if s.followed == nil {
		s.followed = map[route.Connector][]types.NamespacedName{}
	}
	s.followed[owner] = names
}

func (s *secrets) Owners(name types.NamespacedName) (owners []route.Connector) {
	for owner, names := range s.followed {
		if slices.Contains(names, name) {
			owners = append(owners, owner)
		}
	}
	return owners
}

func (s *secrets) Get(_ context.Context, name types.NamespacedName) (*corev1.Secret, error) {
	if err, ok := s.problems[name.Name]; ok {
		return nil, err
	}
	if held, ok := s.held[name.Name]; ok && name.Namespace == held.Namespace {
		return held, nil
	}
	return nil, &secret.Problem{Secret: name, Reason: v1alpha1.ReasonSecretNotFound, Detail: "it does not exist"}
}

func login(version string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "login", ResourceVersion: version}, Type: corev1.SecretTypeBasicAuth,
		Data: map[string][]byte{"username": []byte(user), "password": []byte(password)},
	}
}

func authority(pem string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "ca"}, Data: map[string][]byte{v1alpha1.CACertKey: []byte(pem)}}
}

// registry is a far end of a private authority, which counts who asks.
type registry struct {
	*httptest.Server

	mu    sync.Mutex
	alive int // the status for those without a credential
	auth  int // the status for the credential
	// asked with the credential so often
	attempts int
}

func newRegistry(t testing.TB, change func(*tls.Config)) *registry {
	t.Helper()
	r := &registry{alive: http.StatusUnauthorized, auth: http.StatusOK}
	r.Server = httptest.NewUnstartedServer(r)
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	if change != nil {
		r.TLS = &tls.Config{MinVersion: tls.VersionTLS10}
		change(r.TLS)
	}
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func (r *registry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, pass, ok := request.BasicAuth()
	switch {
	case !ok && request.URL.Path == "/alive":
		w.WriteHeader(r.alive)
	case ok && request.URL.Path == "/login" && name == user && pass == password:
		r.attempts++
		w.WriteHeader(r.auth)
	default:
		w.WriteHeader(http.StatusTeapot)
	}
}

func (r *registry) answer(alive, auth int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive, r.auth = alive, auth
}

func (r *registry) tried() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempts
}

// ca is the certificate that signs the registry's: its own.
func (r *registry) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw}))
}

// scene is a Connector 'demo/harbor' with all that it needs.
type scene struct {
	*Connectors

	registry *registry
	clock    *clock
	secrets  *secrets
	writes   *writes
}

func class() *v1alpha1.ConnectorClass {
	return &v1alpha1.ConnectorClass{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Spec: v1alpha1.ConnectorClassSpec{
		Auth:   []v1alpha1.ClassAuth{{Name: v1alpha1.AuthBasic, SecretType: string(corev1.SecretTypeBasicAuth)}},
		Probes: v1alpha1.ClassProbes{Liveness: v1alpha1.Probe{Path: "/alive"}, Auth: v1alpha1.Probe{Path: "/login"}},
	}}
}

func harbor() *v1alpha1.Connector {
	return &v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "harbor", UID: "harbor-uid", Generation: 3},
		Spec: v1alpha1.ConnectorSpec{
			ConnectorClassName: "plain", Address: "https://example.com",
			Auth:            &v1alpha1.ConnectorAuth{Name: v1alpha1.AuthBasic, SecretRef: v1alpha1.SecretReference{Name: "login"}},
			CACertSecretRef: &v1alpha1.SecretReference{Name: "ca"},
		},
	}
}

func newScene(t testing.TB, far *registry, connector *v1alpha1.Connector, more ...client.Object) *scene {
	t.Helper()
	published := &corev1.ConfigMap{ObjectMeta: system(v1alpha1.ProxyCA), Data: map[string]string{v1alpha1.CACertKey: "proxy ca"}}
	c, w := newCluster(t, append([]client.Object{connector, class(), published}, more...)...)
	s := &scene{registry: far, clock: newClock(), writes: w, secrets: &secrets{
		held: map[string]*corev1.Secret{"login": login("1"), "ca": authority(far.ca())}, problems: map[string]error{},
	}}
	s.Connectors = &Connectors{
		Client: c, Reader: c, Secrets: s.secrets, ClusterDomain: "cluster.local", Now: s.clock.Now,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, far.Listener.Addr().String())
		},
	}
	return s
}

// look reconciles the Connector, and returns its conditions as 'Status Reason'.
func (s *scene) look(t testing.TB) (conditions map[string]string) {
	t.Helper()
	result, err := s.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "demo", Name: "harbor"}})
	if err != nil {
		t.Fatal(err)
	}
	c := read(t, s.Client, "demo", "harbor", &v1alpha1.Connector{})
	conditions = map[string]string{}
	for _, found := range c.Status.Conditions {
		conditions[found.Type] = string(found.Status) + " " + found.Reason
		if found.ObservedGeneration != c.Generation {
			t.Errorf("condition '%s' is of generation %d, want %d", found.Type, found.ObservedGeneration, c.Generation)
		}
		if strings.Contains(found.Message, password) || found.Message == "" || strings.Contains(found.Message, "%!") {
			t.Errorf("message of '%s': %s", found.Type, strconv.Quote(found.Message))
		}
	}
	want := retryAfter
	if meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionReady) {
		want = checkAgain
	}
	if result.RequeueAfter != want {
		t.Errorf("looked at again after %s, want %s", result.RequeueAfter, want)
	}
	return conditions
}

// message of a condition, after look.
func (s *scene) message(t testing.TB, kind string) string {
	t.Helper()
	c := read(t, s.Client, "demo", "harbor", &v1alpha1.Connector{})
	found := meta.FindStatusCondition(c.Status.Conditions, kind)
	if found == nil {
		t.Fatalf("there is no condition '%s'", kind)
	}
	return found.Message
}
