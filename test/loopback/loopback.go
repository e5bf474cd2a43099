// Package loopback runs real registries, and Berth before them, on the loopback
// addresses of this machine, each for as long as one test.
//
// A Site is what a test has of them: a directory, a private certificate
// authority, and processes that end with the test. The registries are
//
//   - Distribution, with a password in an htpasswd file or with the token service
//     of package tokenservice;
//   - nginx before Distribution, as an object storage that blobs are redirected to,
//     or with the paths of Artifactory;
//   - olareg, which knows referrers and breaks them into pages; it runs in the test.
//
// Berth is `berth proxy --static` and `berth token`: nothing of its code runs in
// the test. For clients of the forward proxy, registries have names (Host), which
// lead to this machine in the mount namespace of Berth and nowhere else.
//
// Programs come from where `make` has built them; a test whose programs are
// missing is skipped, and says so.
package loopback

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// The environment names what `make` has built.
const (
	// EnvRegistry is the directory of the program `registry`, Distribution.
	EnvRegistry = "BERTH_REGISTRY"
	// EnvBerth is the program `berth`.
	EnvBerth = "BERTH_PROGRAM"
)

// patience is for what takes a second on a machine that has nothing else to do.
const patience = 30 * time.Second

// Site is all that one test starts.
type Site struct {
	testing.TB

	// Dir is the site's own directory.
	Dir string
	// Authority signs the certificates of every server of the site.
	Authority *Authority

	given *sync.Map // the ports that Port has returned
}

// New makes an empty site.
func New(tb testing.TB) *Site {
	tb.Helper()
	dir, err := os.MkdirTemp("", "site-") //nolint:usetesting // the names of TempDir are too long for sockets, and for names of images
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Site{TB: tb, Dir: dir, given: &sync.Map{}}
	s.Authority = newAuthority(s, "authority")
	return s
}

// At is the same site for a subtest, with which ends what is started there.
func (s *Site) At(tb testing.TB) *Site {
	tb.Helper()
	return &Site{TB: tb, Dir: s.Dir, Authority: s.Authority, given: s.given}
}

// OK ends the test where there is an error.
func (s *Site) OK(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// Path is a file's in the site's directory.
func (s *Site) Path(elements ...string) string {
	return filepath.Join(append([]string{s.Dir}, elements...)...)
}

// Write writes a file into the site's directory, whole or not at all, and returns its path.
func (s *Site) Write(name, content string) string {
	s.Helper()
	path := s.Path(name)
	s.OK(os.MkdirAll(filepath.Dir(path), 0o755))
	unfinished := path + ".unfinished"
	s.OK(os.WriteFile(unfinished, []byte(content), 0o600))
	s.OK(os.Rename(unfinished, path))
	return path
}

// Program is the path of a program of a directory that the environment names,
// or of the machine where it names none; the test is skipped where there is neither.
func (s *Site) Program(env, name, how string) string {
	s.Helper()
	if dir := os.Getenv(env); env != "" && dir != "" {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	} else if path, err := exec.LookPath(name); env == "" && err == nil {
		return path
	}
	s.Skipf("SKIPPED: the program '%s' is missing; %s", name, how)
	return ""
}

// Client is an HTTP client that trusts the site's authority, follows no redirect and has no proxy.
func (s *Site) Client() *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(s.Authority.certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	s.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport: transport, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Port finds a port of 127.0.0.1 that nobody listens on, another one each time.
func (s *Site) Port() int {
	s.Helper()
	for {
		l, err := (&net.ListenConfig{}).Listen(s.Context(), "tcp", "127.0.0.1:0")
		s.OK(err)
		port := l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // of a TCP listener
		_ = l.Close()
		if _, again := s.given.LoadOrStore(port, true); !again {
			return port
		}
	}
}

// Eventually waits until a condition holds, and ends the test where it does not in time.
func (s *Site) Eventually(what string, holds func(context.Context) error) {
	s.Helper()
	var last error
	err := wait.PollUntilContextTimeout(s.Context(), 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		last = holds(ctx)
		return last == nil, nil
	})
	if err != nil {
		s.Fatalf("waiting for %s: %v: %v", what, err, last)
	}
}

// answers waits until a server answers anything at all.
func (s *Site) answers(p *Process, url string) {
	s.Helper()
	client := s.Client()
	s.Eventually(p.name+" to answer at "+url, func(ctx context.Context) error {
		if !p.Running() {
			s.Fatalf("%s ended:\n%s", p.name, p.Log())
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(r)
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
}

// Host is a name that leads to this machine for a Berth of Forward, and for nobody else: clients send what is for
// 'localhost' to no proxy.
func Host(name string) string { return name + ".site.example" }

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// named is where a registry is for others: by a name, since clients go to no token service at a private address.
func named(port int) string { return fmt.Sprintf("https://localhost:%d", port) }
