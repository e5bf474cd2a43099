package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	far "github.com/google/go-containerregistry/pkg/registry"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/proxy/accesslog"
	"berth.dev/berth/proxy/credential"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/proxy/upstream"
	"berth.dev/berth/secret"
	"berth.dev/berth/test/leak"
	"berth.dev/berth/token"
)

const (
	username = "robot$berth"
	password = "correct-horse/battery+staple?%41"
	// session is the registry's cookie.
	session = "secret-session"
)

// world is everything around the proxy: a registry behind TLS that demands
// Basic, Secrets, Namespaces, keys, and the proxy itself behind TLS.
type world struct {
	t          testing.TB
	registry   *farRegistry
	secrets    *secrets
	namespaces namespaces
	catalogue  *access.Catalogue
	keys       token.Keys
	public     atomic.Pointer[token.PublicKeys]
	now        time.Time
	log        *lines
	options    Options
	front      *httptest.Server

	mu      sync.Mutex
	answers bytes.Buffer // all that clients got
}

// newWorld starts a world with Connector 'demo/harbor', which namespace 'demo'
// may pull everything through, and 'team' what is below 'test/'.
func newWorld(t testing.TB, timeouts upstream.Timeouts) *world {
	t.Helper()
	w := &world{
		t: t, registry: newFarRegistry(t), log: &lines{}, catalogue: &access.Catalogue{},
		now:     time.Now().Truncate(time.Second),
		secrets: &secrets{held: map[types.NamespacedName]*corev1.Secret{}},
		namespaces: namespaces{
			"demo":     {UID: "uid-demo", Labels: map[string]string{}},
			"team":     {UID: "uid-team", Labels: map[string]string{"team": "payments"}},
			"stranger": {UID: "uid-stranger"},
		},
	}
	w.keys, _, _, _ = token.Keys{}.Step(w.now.Add(-2*time.Hour), token.Rotation{Every: 24 * time.Hour, Keep: 24 * time.Hour})
	public := w.keys.Public()
	w.public.Store(&public)
	w.rotate(password)
	w.trust(certificate(w.registry.server))
	w.connect("harbor", w.registry.server.URL)
	class, err := access.NewClass(&v1alpha1.ConnectorClass{
		ObjectMeta: metav1.ObjectMeta{Name: "harbor"},
		Spec: v1alpha1.ConnectorClassSpec{API: []v1alpha1.ClassAPI{
			{Paths: []string{"/api/v2.0/**", "/service/*"}}, {Methods: []v1alpha1.APIMethod{"POST"}, Paths: []string{"/api/v2.0/**/scan", "/api/v2.0/robots"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.catalogue.PutClass(class)
	t.Cleanup(w.tryAll)

	registries := upstream.New(credential.NewSource(w.secrets), &net.Dialer{}, timeouts)
	w.serve(Options{
		Catalogue:     w.catalogue,
		Identity:      identity.New(w.public.Load, w.namespaces, func() time.Time { return w.now }, token.AudiencePull, token.AudienceProxy),
		Upstream:      registries,
		ClusterDomain: v1alpha1.ClusterDomain,
		Access:        accesslog.New(w.log),
		Now:           time.Now,
	})
	return w
}

// serve starts the proxy, in the place of the one before.
func (w *world) serve(o Options) {
	w.options = o
	w.front = httptest.NewTLSServer(New(o))
	w.front.Config.ErrorLog = log.New(w.log, "", 0)
	w.t.Cleanup(w.front.Close)
}

// connect puts Connector 'demo/NAME' for a registry into the catalogue.
func (w *world) connect(name, address string) {
	w.t.Helper()
	c, err := access.New(&v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: name, UID: types.UID("uid-" + name + address)},
		Spec: v1alpha1.ConnectorSpec{
			Address: address, ConnectorClassName: "harbor",
			Auth:            &v1alpha1.ConnectorAuth{Name: v1alpha1.AuthBasic, SecretRef: v1alpha1.SecretReference{Name: "credentials"}},
			CACertSecretRef: &v1alpha1.SecretReference{Name: "ca"},
			Access: []v1alpha1.AccessRule{
				{Actions: []v1alpha1.Action{v1alpha1.ActionPull, v1alpha1.ActionPush, v1alpha1.ActionDelete, v1alpha1.ActionAPI}},
				{
					Namespaces:   v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "payments"}}},
					Repositories: []string{"test/**"},
				},
				{
					Namespaces:   v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "payments"}}},
					Repositories: []string{"pushed/*"}, Actions: []v1alpha1.Action{v1alpha1.ActionPush, v1alpha1.ActionAPI},
				},
			},
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.catalogue.Put(c)
}

// rotate writes another password into the Connector's Secret.
func (w *world) rotate(password string) {
	w.secrets.put("credentials", corev1.SecretTypeBasicAuth, map[string][]byte{"username": []byte(username), "password": []byte(password)})
}

// trust writes another authority into the Connector's Secret.
func (w *world) trust(authority []byte) {
	w.secrets.put("ca", corev1.SecretTypeOpaque, map[string][]byte{v1alpha1.CACertKey: authority})
}

// token returns a good token of a namespace, after the changes.
func (w *world) token(namespace string, changes ...func(*token.Claims)) string {
	w.t.Helper()
	c := token.Claims{
		Namespace: namespace, NamespaceUID: "uid-" + namespace, Audience: token.AudiencePull,
		IssuedAt: w.now.Add(-time.Hour), Expires: w.now.Add(time.Hour),
	}
	for _, change := range changes {
		change(&c)
	}
	raw, err := w.keys.Sign(w.now, c)
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

// forProxies makes a token one of containers, and not of kubelet's.
func forProxies(c *token.Claims) { c.Audience = token.AudienceProxy }

// send sends a request with a body, by a container of the namespace.
func (w *world) send(method, path, namespace, body string) answer {
	w.t.Helper()
	r := w.request(method, path, w.token(namespace, forProxies))
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	return w.do(r)
}

// request makes a request with a token; the path goes onto the wire as it is.
func (w *world) request(method, path, token string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.front.URL, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.URL.Opaque = path
	if token != "" {
		r.SetBasicAuth("anyone", token)
	}
	return r
}

// answer is a response, read to its end.
type answer struct {
	*http.Response
	body string
	code Code
	text string
}

func (w *world) do(r *http.Request) answer {
	w.t.Helper()
	client := *w.front.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answer{Response: response, body: string(body)}
	var envelope struct {
		Errors []struct {
			Code    Code
			Message string
		}
	}
	if json.Unmarshal(body, &envelope) == nil && len(envelope.Errors) == 1 {
		a.code, a.text = envelope.Errors[0].Code, envelope.Errors[0].Message
	}
	w.leaks(a)
	return a
}

func (w *world) get(path, namespace string) answer {
	w.t.Helper()
	return w.do(w.request(http.MethodGet, path, w.token(namespace)))
}

// leaks fails the test where the credential stands in an answer or in the log, in any of its forms, and keeps the
// answer to be tried at the registry.
func (w *world) leaks(a answer) {
	w.t.Helper()
	var header bytes.Buffer
	_ = a.Header.Write(&header)
	for where, text := range map[string]string{"body": a.body, "header": header.String(), "log": w.log.String()} {
		if form := leak.Find(text, leak.Forms(username, password, session)); form != "" {
			w.t.Errorf("the credential stands in the %s as '%s': %s", where, form, text)
		}
	}
	if strings.Contains(w.log.String(), "eyJ") {
		w.t.Errorf("a token stands in the log: %s", w.log)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers.WriteString(header.String() + a.body[:min(len(a.body), 64<<10)] + "\n")
}

// tryAll shows the registry whatever was in the answers to clients in each of the ways to sign in, and fails the test where it lets one in.
func (w *world) tryAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, candidate := range leak.Candidates(w.answers.String()) {
		attempts, err := leak.Attempts(context.WithoutCancel(w.t.Context()), w.registry.server.URL+"/v2/test/abc/tags/list", candidate, username)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range attempts {
			answer := httptest.NewRecorder()
			if w.registry.server.Config.Handler.ServeHTTP(answer, r); answer.Code != http.StatusUnauthorized {
				w.t.Errorf("the registry takes what a client got, '%s', as %v", candidate, r.Header)
			}
		}
	}
}

// farRegistry is the registry behind the Connector.
type farRegistry struct {
	server *httptest.Server

	mu       sync.Mutex
	requests []*http.Request
	password string
	instead  http.HandlerFunc
}

func newFarRegistry(t testing.TB) *farRegistry {
	f := &farRegistry{password: password}
	images := far.New(far.Logger(log.New(io.Discard, "", 0)), far.WithReferrersSupport(true))
	f.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		if r.Header.Get("Authorization") != "" || !strings.HasSuffix(r.URL.Path, "/v2/") { // the question whether there is a token service
			f.requests = append(f.requests, r)
		}
		good, instead := f.password, f.instead
		f.mu.Unlock()
		w.Header().Set("Set-Cookie", "sid="+session)
		cookie, _ := r.Cookie("sid")
		if u, p, _ := r.BasicAuth(); (u != username || p != good) && (cookie == nil || cookie.Value != session) {
			w.Header().Set("Www-Authenticate", `Basic realm="harbor"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Www-Authenticate", `Bearer realm="https://harbor/service/token"`)
		if instead != nil {
			instead(w, r)
			return
		}
		images.ServeHTTP(w, r)
	}))
	f.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(f.server.Close)
	return f
}

// answer makes the registry answer otherwise.
func (f *farRegistry) answer(h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instead = h
}

// demand makes the registry want another password.
func (f *farRegistry) demand(password string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.password = password
}

// seen returns the requests that came since it was last asked.
func (f *farRegistry) seen() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.requests
	f.requests = nil
	return seen
}

func certificate(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// secrets are those of namespace 'demo'.
type secrets struct {
	mu      sync.Mutex
	held    map[types.NamespacedName]*corev1.Secret
	version int
	after   map[string]func()
}

// afterGet does something once, after the Secret was next read.
func (s *secrets) afterGet(name string, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = map[string]func(){name: do}
}

func (s *secrets) put(name string, kind corev1.SecretType, content map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	at := types.NamespacedName{Namespace: "demo", Name: name}
	s.held[at] = &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: at.Namespace, Name: name, UID: types.UID(name), ResourceVersion: string(rune('0' + s.version))},
		Type:       kind, Data: content,
	}
}

func (s *secrets) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, types.NamespacedName{Namespace: "demo", Name: name})
}

func (s *secrets) Get(_ context.Context, name types.NamespacedName) (*corev1.Secret, error) {
	s.mu.Lock()
	found, ok := s.held[name]
	after := s.after[name.Name]
	delete(s.after, name.Name)
	s.mu.Unlock()
	if after != nil {
		after()
	}
	if ok {
		return found, nil
	}
	return nil, &secret.Problem{Secret: name, Reason: v1alpha1.ReasonSecretNotFound, Detail: "it does not exist"}
}

type namespaces map[string]identity.Namespace

func (n namespaces) Namespace(name string) (identity.Namespace, bool) {
	found, ok := n[name]
	return found, ok
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// last waits for a line of the access log, and returns the last one.
func (l *lines) last(t testing.TB) map[string]any {
	t.Helper()
	line := map[string]any{}
	if !eventually(func() bool {
		all := strings.Split(strings.TrimSpace(l.String()), "\n")
		return json.Unmarshal([]byte(all[len(all)-1]), &line) == nil
	}) {
		t.Fatalf("the log has no line: %q", l)
	}
	return line
}

// eventually reports whether a condition holds within a second.
func eventually(condition func() bool) bool {
	end := time.After(time.Second)
	ticks := time.NewTicker(5 * time.Millisecond)
	defer ticks.Stop()
	for !condition() {
		select {
		case <-ticks.C:
		case <-end:
			return false
		}
	}
	return true
}
