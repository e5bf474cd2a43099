package static_test

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/access"
	"berth.dev/berth/certs"
	"berth.dev/berth/route"
	"berth.dev/berth/static"
)

// signer notes which authorities are in use, as forward.Authorities would sign with them.
type signer struct {
	mu    sync.Mutex
	using map[string]certs.Authorities
	uids  map[string]types.UID
	used  int
}

func newSigner() *signer {
	return &signer{using: map[string]certs.Authorities{}, uids: map[string]types.UID{}}
}

func (s *signer) Use(name route.Connector, uid types.UID, all certs.Authorities) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.using[name.String()], s.uids[name.String()] = all, uid
	s.used++
}

func (s *signer) Forget(name route.Connector) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.using, name.String())
}

func (s *signer) of(name string) certs.Authorities {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.using[name]
}

// clock is one that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

// state reads manifests, beside the keys that there must be.
func state(t *testing.T, manifests string) *static.State {
	t.Helper()
	s, err := static.Reader{}.Read(static.Files{"a.yaml": []byte(manifests), "k.yaml": []byte(keys(t))})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openInterception(t *testing.T, folder, manifests string, now func() time.Time) *signer {
	t.Helper()
	s := newSigner()
	if _, err := static.OpenInterception(folder, state(t, manifests), s, now); err != nil {
		t.Fatal(err)
	}
	return s
}

func bundle(t *testing.T, folder string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// verifies reports whether who trusts the bundle believes the authorities' certificate for a host.
func verifies(t *testing.T, bundle string, all certs.Authorities, host string, now time.Time) bool {
	t.Helper()
	signing, ok := all.Signing(now)
	if !ok {
		t.Fatal("nothing signs")
	}
	leaf, err := signing.Leaf(now, []string{host}, nil)
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle))
	for _, der := range leaf.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(c)
	}
	parsed, err := x509.ParseCertificate(leaf.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = parsed.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between, CurrentTime: now})
	return err == nil
}

const plainConnector = `---
apiVersion: connectors.berth.dev/v1alpha1
kind: Connector
metadata: {name: plain, namespace: shop}
spec: {connectorClassName: oci, address: http://plain.example.com}
`

// What clients trust stays over a restart, and so does what is signed with it.
func TestInterceptionIsKept(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "a", "b")
	first := openInterception(t, folder, connector+plainConnector, time.Now)
	trusted := bundle(t, folder)
	if !verifies(t, trusted, first.of("shop/harbor"), "harbor.example.com", time.Now()) || verifies(t, trusted, first.of("shop/harbor"), "evil.example.net", time.Now()) {
		t.Error("the bundle is not that of an authority for harbor.example.com alone")
	}
	again := openInterception(t, folder, connector+plainConnector, time.Now)
	if bundle(t, folder) != trusted || !verifies(t, trusted, again.of("shop/harbor"), "harbor.example.com", time.Now()) {
		t.Error("after a restart it is another authority")
	}
	modes := map[string]string{}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		stat, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		modes[entry.Name()] = stat.Mode().String()
	}
	if diff := cmp.Diff(map[string]string{"ca.crt": "-rw-r--r--", "shop.harbor.json": "-rw-------"}, modes); diff != "" {
		t.Errorf("-want +got files:\n%s", diff)
	}
	if strings.Contains(trusted, "PRIVATE") {
		t.Error("the bundle has a key")
	}
}

func TestInterceptionRefuses(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"nonsense":           "hunter2",
		"another Connector":  `{"kind":"Secret","metadata":{"name":"shop.other"}}`,
		"a key that is none": `{"kind":"Secret","metadata":{"name":"shop.harbor"},"data":{"1.crt":"aHVudGVyMg==","1.key":"aHVudGVyMg=="}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			put(t, filepath.Join(folder, "shop.harbor.json"), content)
			_, err := static.OpenInterception(folder, state(t, connector), newSigner(), time.Now)
			if err == nil || !strings.Contains(err.Error(), "shop.harbor.json") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v", err)
			}
		})
	}
}

// It follows the directory, and the clock.
func TestInterceptionFollows(t *testing.T) {
	t.Parallel()
	path, folder := t.TempDir(), t.TempDir()
	put(t, filepath.Join(path, "keys.yaml"), keys(t))
	put(t, filepath.Join(path, "a.yaml"), connector)
	put(t, filepath.Join(folder, "shop.foreign.json"), "somebody else's")
	d := open(t, path, func(*access.Connector) {})
	now, s := &clock{now: time.Now()}, newSigner()
	i, err := static.OpenInterception(folder, d.State(), s, now.read)
	if err != nil {
		t.Fatal(err)
	}
	follow(t, func(ctx context.Context) error { return i.Start(ctx, d) })
	before := bundle(t, folder)

	put(t, filepath.Join(path, "a.yaml"), strings.Replace(connector, "harbor.example", "other.example", 1))
	await(t, "an authority for the other address", func() bool {
		all := s.of("shop/harbor")
		return bundle(t, folder) != before && slices.Equal(all[len(all)-1].Scope().Domains, []string{"other.example.com"})
	})
	if count := strings.Count(bundle(t, folder), "BEGIN"); count != 1 {
		t.Errorf("%d roots are trusted", count)
	}

	now.move(300 * 24 * time.Hour) // it grows old
	await(t, "a second generation", func() bool { return len(s.of("shop/harbor")) == 2 && strings.Count(bundle(t, folder), "BEGIN") == 2 })

	if err := os.Remove(filepath.Join(path, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	await(t, "nothing to be trusted", func() bool { return bundle(t, folder) == "" && s.of("shop/harbor") == nil })
	await(t, "no file", func() bool { _, err := os.Stat(filepath.Join(folder, "shop.harbor.json")); return os.IsNotExist(err) })
	if _, err := os.Stat(filepath.Join(folder, "shop.foreign.json")); err != nil {
		t.Errorf("a file that is not its own: %v", err)
	}
}

// follow runs until the test ends.
func follow(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
