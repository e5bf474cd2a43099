package forward

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
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
	"berth.dev/berth/certs"
	"berth.dev/berth/egress"
	"berth.dev/berth/proxy/accesslog"
	"berth.dev/berth/proxy/credential"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/proxy/upstream"
	"berth.dev/berth/route"
	"berth.dev/berth/secret"
	"berth.dev/berth/test/leak"
	"berth.dev/berth/token"
)

const (
	username = "robot$berth"
	password = "correct-horse/battery+staple?%41"
	// session is Harbor's cookie, and harborToken a token of its token service.
	session     = "secret-session"
	harborToken = "harbor-token"
	harborHost  = "harbor.example.com"
	harborAt    = harborHost + ":443"
	evilHost    = "evil.example.net"
	evilAt      = evilHost + ":443"
)

// world is everything around the proxy: Harbor's stand-in behind TLS that
// demands Basic, another server that is nobody's friend, Secrets, Namespaces,
// keys, a resolver and a dialer that go nowhere else, and the proxy itself.
type world struct {
	t          testing.TB
	harbor     *server
	evil       *server
	net        *network
	wire       *wire
	secrets    *secrets
	namespaces *namespaces
	catalogue  *access.Catalogue
	keys       token.Keys
	public     atomic.Pointer[token.PublicKeys]
	now        time.Time
	log        *lines
	policy     *egress.Policy
	options    Options
	proxy      *Proxy
	front      *httptest.Server
	bundle     *x509.CertPool

	mu      sync.Mutex
	answers bytes.Buffer // all that clients got, decrypted
}

func newWorld(t testing.TB, changes ...func(*Options)) *world {
	t.Helper()
	w := &world{
		t: t, log: &lines{}, wire: newWire(t), catalogue: &access.Catalogue{}, now: time.Now().Truncate(time.Second),
		policy: &egress.Policy{}, bundle: x509.NewCertPool(),
		secrets: &secrets{held: map[types.NamespacedName]*corev1.Secret{}},
		namespaces: &namespaces{held: map[string]identity.Namespace{
			"demo": {UID: "uid-demo"}, "team": {UID: "uid-team", Labels: map[string]string{"team": "payments"}}, "stranger": {UID: "uid-stranger"},
		}},
	}
	ca, err := certs.NewAuthority("far", certs.Scope{Domains: []string{"example.com", "example.net", "docker.io"}, Addresses: []netip.Addr{netip.MustParseAddr("10.9.9.9")}}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	farCA := certs.Authorities{ca}.Bundle()
	w.trust(farCA)
	w.harbor, w.evil = newHarbor(t, ca), newServer(t, ca, nil)
	w.net = &network{wire: w.wire, next: map[string][]string{}, names: map[string][]string{
		harborHost + ".": {"203.0.115.1"}, evilHost + ".": {"203.0.115.2"}, "plain.example.net.": {"203.0.115.3"},
	}, to: map[string]string{
		harborAt: w.harbor.address(), "notary.example.com:443": w.harbor.address(), "mirror.example.com:80": w.harbor.plainAddress(),
		"203.0.115.1:443": w.harbor.address(), "203.0.115.2:443": w.evil.address(), "203.0.115.2:80": w.evil.plainAddress(), "203.0.115.3:80": w.evil.plainAddress(),
		"10.9.9.9:443": w.harbor.address(),
	}}
	w.keys, _, _, _ = token.Keys{}.Step(w.now.Add(-2*time.Hour), token.Rotation{Every: 24 * time.Hour, Keep: 24 * time.Hour})
	public := w.keys.Public()
	w.public.Store(&public)
	w.secrets.put("demo", "credentials", corev1.SecretTypeBasicAuth, map[string][]byte{"username": []byte(username), "password": []byte(password)})
	w.secrets.put("demo", "ca", corev1.SecretTypeOpaque, map[string][]byte{v1alpha1.CACertKey: farCA})
	w.options = Options{
		Catalogue:   w.catalogue,
		Identity:    identity.New(w.public.Load, w.namespaces, func() time.Time { return w.now }, token.AudienceProxy),
		Upstream:    upstream.New(credential.NewSource(w.secrets), w.net, upstream.Timeouts{}),
		Egress:      &egress.Way{Resolver: w.net, Check: egress.NewDialer(netip.MustParsePrefix("10.96.0.9/32")).Check, Dial: w.net.DialContext},
		Policy:      func(string) *egress.Policy { return w.policy },
		Trusted:     func() []string { return []string{v1alpha1.SystemNamespace} },
		Authorities: NewAuthorities(time.Now),
		Access:      accesslog.New(w.log),
		Log:         slog.New(slog.NewJSONHandler(w.log, nil)),
		Now:         time.Now,
	}
	w.connect("demo", "harbor", "https://"+harborHost)
	for _, change := range changes {
		change(&w.options)
	}
	w.proxy = New(w.options)
	w.front = httptest.NewUnstartedServer(w.proxy)
	w.front.Listener = w.wire.listener(w.front.Listener)
	w.front.Config.ErrorLog = log.New(w.log, "", 0)
	w.front.Config.ReadHeaderTimeout, w.front.Config.MaxHeaderBytes = headerTimeout, mostHeader // what comes at once may be late on a machine that is busy
	w.front.Start()
	t.Cleanup(w.end)
	return w
}

// end closes everything, and fails the test where the credential got anywhere but to Harbor's stand-in, within TLS.
func (w *world) end() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	cancel()
	_ = w.proxy.Shutdown(ctx)
	w.front.CloseClientConnections()
	w.front.Close()
	places := w.wire.flows()
	places["log"], places["other server"] = w.log.String(), w.evil.everything()
	for where, text := range places {
		if form := leak.Find(text, credentialForms()); form != "" {
			w.t.Errorf("the credential stands in the %s as '%s': %.2000q", where, form, text)
		}
		if strings.Contains(text, "Proxy-Authorization") || strings.Contains(text, "eyJhbGciOi") {
			w.t.Errorf("a berth token stands in the %s: %.2000q", where, text)
		}
	}
	w.tryAll()
}

// credentialForms are what no text may hold.
func credentialForms() []string { return leak.Forms(username, password, session, harborToken) }

// connect puts a Connector into the catalogue, with an authority of its own.
func (w *world) connect(namespace, name, address string, changes ...func(*v1alpha1.Connector)) *access.Connector {
	w.t.Helper()
	c := &v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name + address)},
		Spec: v1alpha1.ConnectorSpec{
			Address:         address,
			Auth:            &v1alpha1.ConnectorAuth{Name: v1alpha1.AuthBasic, SecretRef: v1alpha1.SecretReference{Name: "credentials"}},
			CACertSecretRef: &v1alpha1.SecretReference{Name: "ca"},
			Access: []v1alpha1.AccessRule{
				{Actions: []v1alpha1.Action{v1alpha1.ActionPull, v1alpha1.ActionPush}},
				{Namespaces: labelled("team", "payments"), Repositories: []string{"test/**"}},
				{Namespaces: labelled("team", "payments"), Repositories: []string{"pushed/*"}, Actions: []v1alpha1.Action{v1alpha1.ActionPush}},
			},
		},
	}
	for _, change := range changes {
		change(c)
	}
	compiled, err := access.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.catalogue.Put(compiled)
	w.sign(compiled)
	return compiled
}

func labelled(key, value string) v1alpha1.AccessNamespaces {
	return v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}}
}

// trust is what all clients do from now on.
func (w *world) trust(bundle []byte) {
	w.bundle.AppendCertsFromPEM(bundle)
}

// sign gives a Connector its authority, which all clients trust.
func (w *world) sign(c *access.Connector) {
	w.t.Helper()
	var scope certs.Scope
	scope.Domains, scope.Addresses = c.Hosts()
	authorities, _, _, err := certs.Authorities{}.Step(c.String(), scope, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.trust(authorities.Bundle())
	w.options.Authorities.Use(c.Connector, c.UID, authorities)
}

// token returns a good token of a namespace, after the changes.
func (w *world) token(namespace string, changes ...func(*token.Claims)) string {
	w.t.Helper()
	c := token.Claims{
		Namespace: namespace, NamespaceUID: "uid-" + namespace, Audience: token.AudienceProxy,
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

// client is one of a namespace, as HTTP_PROXY makes it.
func (w *world) client(namespace string, changes ...func(*http.Transport)) *http.Client {
	return w.clientAs(user(namespace), w.token(namespace), changes...)
}

// user names 'demo/harbor' for namespaces whose own it is not, as the webhook does for an annotation.
func user(namespace string) string {
	if namespace == "demo" {
		return "berth"
	}
	return "demo/harbor"
}

func (w *world) clientAs(user, password string, changes ...func(*http.Transport)) *http.Client {
	w.t.Helper()
	at, _ := url.Parse(w.front.URL)
	at.User = url.UserPassword(user, password)
	transport := &http.Transport{Proxy: http.ProxyURL(at), TLSClientConfig: &tls.Config{RootCAs: w.bundle}, DisableCompression: true}
	for _, change := range changes {
		change(transport)
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// answered is a response, read to its end.
type answered struct {
	*http.Response
	body string
}

// do sends a request; every answer is searched for what a client may not have.
func (w *world) do(client *http.Client, method, address string, body io.Reader, changes ...func(*http.Request)) answered {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, address, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, change := range changes {
		change(r)
	}
	response, err := client.Do(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, address, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answered{response, string(content)}
	w.leaks(a)
	return a
}

func (w *world) get(client *http.Client, address string) answered {
	w.t.Helper()
	return w.do(client, http.MethodGet, address, nil)
}

// leaks fails the test where the credential came to the client, and keeps the answer to be tried at Harbor.
func (w *world) leaks(a answered) {
	w.t.Helper()
	var header bytes.Buffer
	_ = a.Header.Write(&header)
	text := header.String() + a.body
	if form := leak.Find(text, credentialForms()); form != "" {
		w.t.Errorf("the credential came to the client as '%s': %s", form, text)
	}
	if a.Request != nil && a.Request.Header.Get("Authorization") != "" {
		return // what the client gets for a login of its own is its own
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers.WriteString(text[:min(len(text), 64<<10)] + "\n")
}

// tryAll shows Harbor whatever was in the answers to clients in each of the ways to sign in, and fails the test where it lets one in.
func (w *world) tryAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, candidate := range leak.Candidates(w.answers.String()) {
		attempts, err := leak.Attempts(context.WithoutCancel(w.t.Context()), "https://"+harborHost+"/v2/test/abc/tags/list", candidate, username)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range attempts {
			if answer := httptest.NewRecorder(); w.harbor.try(answer, r) != http.StatusUnauthorized {
				w.t.Errorf("Harbor takes what a client got, '%s', as %v", candidate, r.Header)
			}
		}
	}
}

// dial asks the proxy for a tunnel in bytes of the test's own, and returns the status and the connection.
func (w *world) dial(namespace, target string, more ...string) (int, *tunnelled) {
	w.t.Helper()
	return w.raw("CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\nProxy-Authorization: " + w.basic(user(namespace), w.token(namespace)) + "\r\n" + strings.Join(more, "") + "\r\n")
}

func (*world) basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// tunnelled is a connection to the proxy, after its answer.
type tunnelled struct {
	net.Conn
	reader   *bufio.Reader
	response *http.Response
}

func (c *tunnelled) Read(p []byte) (int, error) { return c.reader.Read(p) }

func (w *world) raw(head string) (int, *tunnelled) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.front.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, head); err != nil {
		w.t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	return response.StatusCode, &tunnelled{conn, reader, response}
}

// secure starts TLS in a tunnel, and returns an error where it does not come about.
func (w *world) secure(c *tunnelled, name string, protocols ...string) (*tls.Conn, error) {
	secured := tls.Client(c, &tls.Config{RootCAs: w.bundle, ServerName: name, NextProtos: protocols})
	return secured, secured.Handshake()
}

// inside opens a tunnel to Harbor and sends bytes of the test's own through TLS; it returns the answers' statuses.
func (w *world) inside(namespace, text string) answered {
	w.t.Helper()
	status, c := w.dial(namespace, harborAt)
	if status != http.StatusOK {
		w.t.Fatalf("CONNECT: %d", status)
	}
	secured, err := w.secure(c, harborHost)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.say(secured, text)
}

// say sends bytes and reads one answer.
func (w *world) say(conn net.Conn, text string) answered {
	w.t.Helper()
	go func() { _, _ = io.WriteString(conn, text) }()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	a := answered{response, string(body)}
	w.leaks(a)
	return a
}

// server is a far end over TLS, and beside it in clear, that notes what comes.
type server struct {
	secure, plain *httptest.Server

	mu       sync.Mutex
	requests []*http.Request
	instead  http.HandlerFunc
	raw      bytes.Buffer
}

func newServer(t testing.TB, ca certs.Authority, next http.Handler) *server {
	t.Helper()
	s := &server{}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r)
		_ = r.Header.Write(&s.raw)
		s.raw.WriteString(r.Method + " " + r.Host + r.RequestURI + "\n")
		instead := s.instead
		s.mu.Unlock()
		switch {
		case next != nil:
			next.ServeHTTP(w, r)
		case instead != nil:
			instead(w, r)
		default:
			_, _ = io.WriteString(w, "evil")
		}
	})
	leaf, err := ca.Leaf(time.Now(), []string{harborHost, evilHost, "notary.example.com", "registry-1.docker.io"}, []netip.Addr{netip.MustParseAddr("10.9.9.9")})
	if err != nil {
		t.Fatal(err)
	}
	s.secure, s.plain = httptest.NewUnstartedServer(handler), httptest.NewUnstartedServer(handler)
	s.secure.TLS = &tls.Config{Certificates: []tls.Certificate{*leaf}}
	for _, one := range []*httptest.Server{s.secure, s.plain} {
		one.Config.ErrorLog = log.New(io.Discard, "", 0)
		t.Cleanup(one.Close)
	}
	s.secure.StartTLS()
	s.plain.Start()
	return s
}

func (s *server) address() string      { return s.secure.Listener.Addr().String() }
func (s *server) plainAddress() string { return s.plain.Listener.Addr().String() }

// answer makes the server answer otherwise.
func (s *server) answer(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instead = h
}

// try asks the server's handler, past the network, and returns the status.
func (s *server) try(w *httptest.ResponseRecorder, r *http.Request) int {
	s.secure.Config.Handler.ServeHTTP(w, r)
	return w.Code
}

// seen returns the requests that came since it was last asked, but for those by which Berth asks a registry how to sign in.
func (s *server) seen() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := slices.DeleteFunc(s.requests, func(r *http.Request) bool { return r.RequestURI == "/v2/" })
	s.requests = nil
	return seen
}

// everything is what came in all.
func (s *server) everything() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raw.String()
}

// signedIn returns who signs in with a request: with a password, or with what Harbor gives out in its stead; empty: nobody.
func signedIn(r *http.Request) string {
	user, pass, _ := r.BasicAuth()
	cookie, _ := r.Cookie("sid")
	switch {
	case user == username && pass == password, cookie != nil && cookie.Value == session, r.Header.Get("Authorization") == "Bearer "+harborToken:
		return username
	case user == "own" && pass == "own-password":
		return user
	}
	return ""
}

// given is what Harbor gives to whom: the session and the token of the credential, or others.
func given(who, ofCredential string) string {
	if who == username {
		return ofCredential
	}
	return "of-" + who
}

// newHarbor is a registry that demands Basic.
func newHarbor(t testing.TB, ca certs.Authority) *server {
	var s *server
	images := far.New(far.Logger(log.New(io.Discard, "", 0)), far.WithReferrersSupport(true))
	s = newServer(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		instead := s.instead
		s.mu.Unlock()
		who := signedIn(r)
		w.Header().Set("Set-Cookie", "sid="+given(who, session))
		if who == "" {
			w.Header().Set("Www-Authenticate", `Basic realm="harbor"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if instead != nil {
			instead(w, r)
			return
		}
		if !strings.HasPrefix(r.URL.Path, "/v2/") {
			_ = json.NewEncoder(w).Encode(map[string]string{"token": given(who, harborToken), "path": r.URL.Path})
			return
		}
		images.ServeHTTP(w, r)
	}))
	return s
}

type secrets struct {
	mu   sync.Mutex
	held map[types.NamespacedName]*corev1.Secret
}

func (s *secrets) put(namespace, name string, kind corev1.SecretType, content map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := types.NamespacedName{Namespace: namespace, Name: name}
	s.held[at] = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(name), ResourceVersion: "1"}, Type: kind, Data: content}
}

func (s *secrets) Get(_ context.Context, name types.NamespacedName) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found, ok := s.held[name]; ok {
		return found, nil
	}
	return nil, &secret.Problem{Secret: name, Reason: v1alpha1.ReasonSecretNotFound, Detail: "it does not exist"}
}

type namespaces struct {
	mu   sync.Mutex
	held map[string]identity.Namespace
}

func (n *namespaces) Namespace(name string) (identity.Namespace, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	found, ok := n.held[name]
	return found, ok
}

func (n *namespaces) set(name string, to identity.Namespace) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held[name] = to
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	gone bool // nothing is kept
}

// discard keeps nothing from now on.
func (l *lines) discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return len(p), nil
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// has waits for a line of the access log with this reason.
func (l *lines) has(t testing.TB, reason string) {
	t.Helper()
	if !eventually(func() bool { return strings.Contains(l.String(), `"reason":"`+reason+`"`) }) {
		t.Errorf("no line with reason '%s' in the log: %s", reason, l)
	}
}

// eventually reports whether a condition holds within some seconds.
func eventually(condition func() bool) bool {
	end := time.After(5 * time.Second)
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

func named(namespace, name string) route.Connector {
	return route.Connector{Namespace: namespace, Name: name}
}
