package upstream

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/egress"
	"berth.dev/berth/proxy/credential"
)

// secrets holds one Secret of each name, in any namespace.
type secrets struct{ held sync.Map }

func (s *secrets) Get(_ context.Context, name types.NamespacedName) (*corev1.Secret, error) {
	found, _ := s.held.Load(name.Name)
	return found.(*corev1.Secret), nil
}

func (s *secrets) put(name, version string, kind corev1.SecretType, content map[string][]byte) {
	s.held.Store(name, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: version}, Type: kind, Data: content})
}

func (s *secrets) trust(server *httptest.Server, version string) {
	s.put("ca", version, corev1.SecretTypeOpaque, map[string][]byte{
		v1alpha1.CACertKey: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	})
}

// start starts a registry and returns a Connector for it.
func start(t testing.TB, registry http.HandlerFunc, configure ...func(*httptest.Server)) (*httptest.Server, *access.Connector, *secrets) {
	t.Helper()
	server := httptest.NewUnstartedServer(registry)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, c := range configure {
		c(server)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	held := &secrets{}
	held.trust(server, "1")
	held.put("login", "1", corev1.SecretTypeBasicAuth, map[string][]byte{"username": []byte("robot"), "password": []byte("hunter2")})
	return server, connector(t, server.URL, &v1alpha1.ConnectorAuth{Name: v1alpha1.AuthBasic, SecretRef: v1alpha1.SecretReference{Name: "login"}}), held
}

func connector(t testing.TB, address string, auth *v1alpha1.ConnectorAuth) *access.Connector {
	t.Helper()
	c, err := access.New(&v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "harbor", UID: "uid"},
		Spec:       v1alpha1.ConnectorSpec{Address: address, Auth: auth, CACertSecretRef: &v1alpha1.SecretReference{Name: "ca"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func request(t testing.TB, method string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://evil.example.com/v2/a/manifests/v1?x=1", body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// finish reads a response to its end, as ReverseProxy does.
func finish(response *http.Response) {
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
}

func TestGoesToTheAddressAlone(t *testing.T) {
	var got *http.Request
	server, c, held := start(t, func(_ http.ResponseWriter, r *http.Request) { got = r })
	r := request(t, http.MethodGet, nil)
	r.Host = "evil.example.com"
	r.SetBasicAuth("client", "token")
	response, err := New(credential.NewSource(held), &net.Dialer{}, Timeouts{}).RoundTrip(c, r)
	if err != nil {
		t.Fatal(err)
	}
	finish(response)
	user, password, _ := got.BasicAuth()
	want := []string{strings.TrimPrefix(server.URL, "https://"), "/v2/a/manifests/v1?x=1", "robot", "hunter2", "HTTP/1.1"}
	if diff := cmp.Diff(want, []string{got.Host, got.RequestURI, user, password, got.Proto}); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if user, _, _ := r.BasicAuth(); user != "client" || r.URL.Host != "evil.example.com" {
		t.Errorf("the request was changed: %s at %s", user, r.URL)
	}
}

func TestConnectionHeaders(t *testing.T) {
	_, c, held := start(t, func(w http.ResponseWriter, r *http.Request) {
		if user, _, _ := r.BasicAuth(); user != "robot" || r.Header.Get("X-Mine") != "" {
			t.Errorf("user %q, X-Mine %q", user, r.Header.Get("X-Mine"))
		}
		w.Header().Set("Connection", "x-theirs")
		w.Header().Set("X-Theirs", "1")
	})
	r := request(t, http.MethodGet, nil)
	r.Header["Connection"] = []string{"keep-alive, x-mine", "authorization"}
	r.Header.Set("X-Mine", "1")
	response, err := New(credential.NewSource(held), &net.Dialer{}, Timeouts{}).RoundTrip(c, r)
	if err != nil {
		t.Fatal(err)
	}
	finish(response)
	if response.Header.Get("X-Theirs") != "" {
		t.Error("a header of one connection came through")
	}
}

func TestWithoutAuth(t *testing.T) {
	status := http.StatusOK
	server, _, held := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("Authorization: %s", r.Header.Get("Authorization"))
		}
		w.WriteHeader(status)
	})
	c := connector(t, server.URL, nil)
	u := New(credential.NewSource(held), &net.Dialer{}, Timeouts{})
	r := request(t, http.MethodGet, nil)
	r.Header.Set("Authorization", "Bearer of-the-client")
	response, err := u.RoundTrip(c, r)
	if err != nil {
		t.Fatal(err)
	}
	finish(response)
	status = http.StatusUnauthorized
	_, err = u.RoundTrip(c, r)
	var far *Error
	if !errors.As(err, &far) || far.Reason != v1alpha1.ReasonCredentialRefused || !strings.Contains(far.Detail, "`auth`") {
		t.Errorf("a registry that wants a credential: %v", err)
	}
}

// breaking dials for real, and breaks some of the connections.
type breaking struct {
	dials atomic.Int32
	// refuse says, by its number from 1, whether a dial fails; broken, whether its connection ends before an answer.
	refuse, broken func(n int32) bool
	err            error
}

func (d *breaking) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	n := d.dials.Add(1)
	if d.refuse != nil && d.refuse(n) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: d.err}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil && d.broken != nil && d.broken(n) {
		_ = conn.Close()
	}
	return conn, err
}

func first(n int32) bool { return n == 1 }

func always(int32) bool { return true }

func TestRetryOnConnectionFailure(t *testing.T) {
	down := errors.New("no route to host")
	for name, test := range map[string]struct {
		dialer *breaking
		method string
		body   string
		ok     bool
		dials  int32
		reason string
	}{
		"once refused":        {&breaking{refuse: first, err: down}, http.MethodGet, "", true, 2, ""},
		"HEAD, once refused":  {&breaking{refuse: first, err: down}, http.MethodHead, "", true, 2, ""},
		"once broken":         {&breaking{broken: first}, http.MethodGet, "", true, 2, ""},
		"always refused":      {&breaking{refuse: always, err: down}, http.MethodGet, "", false, 2, v1alpha1.ReasonUnreachable},
		"POST":                {&breaking{refuse: first, err: down}, http.MethodPost, "", false, 1, v1alpha1.ReasonUnreachable},
		"GET with a body":     {&breaking{refuse: first, err: down}, http.MethodGet, "body", false, 1, v1alpha1.ReasonUnreachable},
		"forbidden address":   {&breaking{refuse: always, err: egress.ErrForbidden}, http.MethodGet, "", false, 1, v1alpha1.ReasonAddressForbidden},
		"timeout of the dial": {&breaking{refuse: always, err: context.DeadlineExceeded}, http.MethodGet, "", false, 1, v1alpha1.ReasonUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			_, c, held := start(t, func(http.ResponseWriter, *http.Request) {})
			var body io.Reader
			if test.body != "" {
				body = io.NopCloser(strings.NewReader(test.body))
			}
			response, err := New(credential.NewSource(held), test.dialer, Timeouts{}).RoundTrip(c, request(t, test.method, body))
			if err == nil {
				finish(response)
			}
			var far *Error
			if errors.As(err, &far); (err == nil) != test.ok || far != nil && far.Reason != test.reason {
				t.Errorf("%v, want success: %t, reason %q", err, test.ok, test.reason)
			}
			if n := test.dialer.dials.Load(); n != test.dials {
				t.Errorf("%d dials, want %d", n, test.dials)
			}
		})
	}
}

func TestAnswersAreNotRetried(t *testing.T) {
	var asked atomic.Int32
	_, c, held := start(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	response, err := New(credential.NewSource(held), &net.Dialer{}, Timeouts{}).RoundTrip(c, request(t, http.MethodGet, nil))
	if err != nil || response.StatusCode != http.StatusServiceUnavailable || asked.Load() != 1 {
		t.Fatalf("%v, asked %d times", err, asked.Load())
	}
	finish(response)
}

// counting counts open connections.
type counting struct {
	dials, open atomic.Int32
}

type counted struct {
	net.Conn
	once sync.Once
	open *atomic.Int32
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// SyscallConn is what has the connection be used again.
func (c *counted) SyscallConn() (syscall.RawConn, error) { return c.Conn.(syscall.Conn).SyscallConn() }

func (d *counting) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.dials.Add(1)
	d.open.Add(1)
	return &counted{Conn: conn, open: &d.open}, nil
}

func TestConnectionsLive(t *testing.T) {
	server, c, held := start(t, func(http.ResponseWriter, *http.Request) {})
	dialer := &counting{}
	u := New(credential.NewSource(held), dialer, Timeouts{})
	ask := func() {
		t.Helper()
		response, err := u.RoundTrip(c, request(t, http.MethodGet, nil))
		if err != nil {
			t.Fatal(err)
		}
		finish(response)
	}
	expect := func(when string, dials, open int32) {
		t.Helper()
		end := time.After(time.Second)
		ticks := time.NewTicker(5 * time.Millisecond)
		defer ticks.Stop()
		for dialer.dials.Load() != dials || dialer.open.Load() != open {
			select {
			case <-ticks.C:
				continue
			case <-end:
			}
			break
		}
		if dialer.dials.Load() == dials && dialer.open.Load() == open {
			return
		}
		t.Errorf("%s: %d dials, %d open, want %d, %d", when, dialer.dials.Load(), dialer.open.Load(), dials, open)
	}
	ask()
	ask()
	expect("two requests", 1, 1)
	held.trust(server, "2")
	ask()
	expect("the authorities changed", 2, 1)
	u.Forget(c.UID)
	expect("the Connector was deleted", 2, 0)
	ask()
	expect("it came back", 3, 1)
}

func TestManyAtOnceWhileAuthoritiesChange(t *testing.T) {
	server, c, held := start(t, func(http.ResponseWriter, *http.Request) {})
	u := New(credential.NewSource(held), &net.Dialer{}, Timeouts{})
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 10 {
				held.trust(server, string(rune('a'+n))+string(rune('a'+i)))
				response, err := u.RoundTrip(c, request(t, http.MethodGet, nil))
				if err != nil {
					t.Error(err)
					return
				}
				finish(response)
			}
		})
	}
	wg.Wait()
}

func TestTLSVersion(t *testing.T) {
	_, c, held := start(t, func(http.ResponseWriter, *http.Request) {}, func(s *httptest.Server) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	})
	if response, err := New(credential.NewSource(held), &net.Dialer{}, Timeouts{}).RoundTrip(c, request(t, http.MethodGet, nil)); err == nil {
		finish(response)
		t.Error("TLS 1.1 is spoken")
	}
}

func TestHTTP1IsSpoken(t *testing.T) {
	var proto string
	_, c, held := start(t, func(_ http.ResponseWriter, r *http.Request) { proto = r.Proto }, func(s *httptest.Server) { s.EnableHTTP2 = true })
	response, err := New(credential.NewSource(held), &net.Dialer{}, Timeouts{}).RoundTrip(c, request(t, http.MethodGet, nil))
	if err != nil {
		t.Fatal(err)
	}
	finish(response)
	if proto != "HTTP/1.1" {
		t.Errorf("the registry hears %s", proto)
	}
}

func TestEgressDialerRefusesLoopback(t *testing.T) {
	_, c, held := start(t, func(http.ResponseWriter, *http.Request) { t.Error("the registry heard of it") })
	_, err := New(credential.NewSource(held), egress.NewDialer(), Timeouts{}).RoundTrip(c, request(t, http.MethodGet, nil))
	var far *Error
	if !errors.As(err, &far) || far.Reason != v1alpha1.ReasonAddressForbidden || !errors.Is(err, egress.ErrForbidden) {
		t.Errorf("%v", err)
	}
}

func BenchmarkOutgoing(b *testing.B) {
	c := connector(b, "https://harbor.example.com", nil)
	r := httptest.NewRequest(http.MethodGet, "/v2/a/manifests/v1", nil)
	r.Header.Set("Accept", "*/*")
	r.Header.Set("User-Agent", "containerd/2.4")
	r.Header.Set("Authorization", "Basic eA==")
	b.ReportAllocs()
	for b.Loop() {
		_ = outgoing(c, r, credential.Authorization{})
	}
}
