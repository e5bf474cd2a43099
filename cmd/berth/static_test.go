package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	far "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"k8s.io/apimachinery/pkg/util/wait"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// half of a blob is more than any buffer on its way.
func half() string { return strings.Repeat("half", 64<<10) }

// behind is the registry behind the proxy: TLS, and a password that may change.
type behind struct {
	*httptest.Server

	password atomic.Pointer[string]
	// held answers '/v2/team/slow/…' by halves: the second comes once it is closed.
	held chan struct{}
}

func newBehind(t *testing.T) *behind {
	t.Helper()
	b := &behind{held: make(chan struct{})}
	b.password.Store(new("first"))
	images := far.New(far.Logger(log.New(io.Discard, "", 0)))
	b.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "robot" || password != *b.password.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/v2/team/slow/") {
			w.Header().Set("Content-Length", strconv.Itoa(2*len(half())))
			_, _ = io.WriteString(w, half())
			_ = http.NewResponseController(w).Flush()
			select {
			case <-b.held:
			case <-r.Context().Done():
				return
			}
			_, _ = io.WriteString(w, half())
			return
		}
		images.ServeHTTP(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

// push puts an image into the registry, past the proxy.
func (b *behind) push(t *testing.T, repository string) (digest string) {
	t.Helper()
	image, err := random.Image(1024, 2)
	if err != nil {
		t.Fatal(err)
	}
	to, err := name.ParseReference(strings.TrimPrefix(b.URL, "https://")+"/"+repository, name.StrictValidation)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(to, image, remote.WithTransport(b.Client().Transport), remote.WithAuth(&authn.Basic{Username: "robot", Password: *b.password.Load()})); err != nil {
		t.Fatal(err)
	}
	hash, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return hash.String()
}

const staticManifests = `apiVersion: connectors.berth.dev/v1alpha1
kind: Connector
metadata: {name: harbor, namespace: shop}
spec:
  connectorClassName: oci
  address: %s
  auth: {name: basicAuth, secretRef: {name: login}}
  caCertSecretRef: {name: ca}
  access:
  - namespaces: {from: Selector, selector: {matchLabels: {team: shop}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, uid: u-1234, labels: {team: shop}}
---
{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca", "namespace": "shop"}, "stringData": {"ca.crt": %q}}
`

const staticSecret = `apiVersion: v1
kind: Secret
metadata: {name: login, namespace: shop}
type: kubernetes.io/basic-auth
stringData: {username: robot, password: %s}
`

// staticProxy is a running `berth proxy --static`.
type staticProxy struct {
	command     *exec.Cmd
	directory   string
	https, http string
	client      *http.Client
	log         *logged
}

// logged is what a process has logged.
type logged struct {
	mu    sync.Mutex
	lines []map[string]any
	text  bytes.Buffer
	more  chan struct{}
	ended bool
}

func (l *logged) follow(from io.Reader) {
	scanner := bufio.NewScanner(from)
	for scanner.Scan() {
		var line map[string]any
		_ = json.Unmarshal(scanner.Bytes(), &line)
		l.mu.Lock()
		l.lines = append(l.lines, line)
		l.text.Write(append(scanner.Bytes(), '\n'))
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
	}
	l.mu.Lock()
	l.ended = true
	close(l.more)
	l.mu.Unlock()
}

// await returns the first line that is as wanted.
func (l *logged) await(t *testing.T, wanted func(map[string]any) bool) map[string]any {
	t.Helper()
	end := time.After(patience)
	for {
		l.mu.Lock()
		more := l.more
		for _, line := range l.lines {
			if wanted(line) {
				l.mu.Unlock()
				return line
			}
		}
		text, ended := l.text.String(), l.ended
		l.mu.Unlock()
		if ended {
			t.Fatalf("it ended, and has not logged what is awaited:\n%s", text)
		}
		select {
		case <-more:
		case <-end:
			t.Fatalf("it does not log what is awaited:\n%s", text)
		}
	}
}

func berth(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "berth", args...)
	var errors bytes.Buffer
	c.Stderr = &errors
	out, err := c.Output()
	if err != nil {
		t.Fatalf("berth %s: %v\n%s", strings.Join(args, " "), err, errors.String())
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, file, content string) {
	t.Helper()
	// As editors do it: nobody reads half of it.
	if err := os.WriteFile(file+"~", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+"~", file); err != nil {
		t.Fatal(err)
	}
}

// startStatic starts a proxy in front of the registry; its keys are in the file 'key' beside the directory.
func startStatic(t *testing.T, b *behind) *staticProxy {
	t.Helper()
	p := &staticProxy{directory: filepath.Join(t.TempDir(), "manifests"), log: &logged{more: make(chan struct{})}}
	if err := os.Mkdir(p.directory, 0o700); err != nil {
		t.Fatal(err)
	}
	berth(t, "token", "new-key", "--key", p.key())
	write(t, filepath.Join(p.directory, "keys.yaml"), berth(t, "token", "public-keys", "--key", p.key()))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Certificate().Raw})
	write(t, filepath.Join(p.directory, "harbor.yaml"), fmt.Sprintf(staticManifests, b.URL, ca))
	write(t, filepath.Join(p.directory, "login.yaml"), fmt.Sprintf(staticSecret, "first"))
	certificate, key := p.serving(t)
	p.command = exec.CommandContext(context.WithoutCancel(t.Context()), "berth", "proxy", "--static", p.directory, "--allow-addresses", "127.0.0.0/8",
		"--tls-certificate", certificate, "--tls-key", key, "--registry-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0",
		"--forward-address", "127.0.0.1:0", "--interception", p.interception(),
		"--health-address", "127.0.0.1:0", "--metrics-address", "0", "--leave", "0s")
	stderr, err := p.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.command.Process.Kill(); _ = p.command.Wait() })
	go p.log.follow(stderr)
	p.https, p.http = p.address(t, "HTTPS"), p.address(t, "HTTP")
	return p
}

// TestTimersAreRelaxed: all threads of a proxy may be woken late, and it is the process that was started.
func TestTimersAreRelaxed(t *testing.T) {
	t.Parallel()
	p := startStatic(t, newBehind(t))
	folder := fmt.Sprintf("/proc/%d/task", p.command.Process.Pid)
	threads, err := os.ReadDir(folder)
	if err != nil || len(threads) < 2 {
		t.Fatalf("%d threads, %v", len(threads), err)
	}
	for _, thread := range threads {
		of := fmt.Sprintf("/proc/%s/timerslack_ns", thread.Name())
		got, err := os.ReadFile(of)
		if errors.Is(err, fs.ErrPermission) {
			t.Skipf("to read it takes CAP_SYS_NICE: %v", err)
		}
		if strings.TrimSpace(string(got)) != "1000000" || err != nil {
			t.Errorf("%s: %s, %v", of, got, err)
		}
	}
}

func (p *staticProxy) key() string { return filepath.Join(filepath.Dir(p.directory), "key") }

// serving writes the certificate of another server of 127.0.0.1, and a client that trusts it.
func (p *staticProxy) serving(t *testing.T) (certificate, key string) {
	t.Helper()
	pair := httptest.NewTLSServer(nil)
	defer pair.Close()
	p.client = pair.Client()
	t.Cleanup(p.client.CloseIdleConnections)
	folder := filepath.Dir(p.directory)
	certificate, key = filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	write(t, certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate().Raw})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyOf(t, pair.TLS.Certificates[0])})))
	return certificate, key
}

func keyOf(t *testing.T, pair tls.Certificate) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (p *staticProxy) address(t *testing.T, over string) string {
	t.Helper()
	line := p.log.await(t, func(line map[string]any) bool { return line["msg"] == "serve registries" && line["over"] == over })
	return strings.ToLower(over) + "://" + line["address"].(string)
}

func (p *staticProxy) token(t *testing.T, args ...string) string {
	t.Helper()
	return berth(t, append([]string{"token", "--key", p.key()}, args...)...)
}

// get asks for a path of a repository of the Connector.
func (p *staticProxy) get(t *testing.T, front, token, path string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, front+"/v2/namespaces/shop/connectors/harbor/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("any", token)
	return p.client.Do(r)
}

func (p *staticProxy) status(t *testing.T, front, token, path string) int {
	t.Helper()
	response, err := p.get(t, front, token, path)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return response.StatusCode
}

func (p *staticProxy) testReady(t *testing.T) {
	t.Helper()
	address := p.log.await(t, func(line map[string]any) bool { return line["msg"] == "serve health" })["address"].(string)
	p.log.await(t, func(line map[string]any) bool { return line["msg"] == "serve the forward proxy" })
	for _, condition := range []string{"", "/registries-listen", "/forward-listens"} {
		var last string
		if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz"+condition, nil)
			if err != nil {
				return false, err
			}
			response, err := p.client.Do(r)
			if err != nil {
				return false, err
			}
			last = response.Status
			return response.StatusCode == http.StatusOK, response.Body.Close()
		}); err != nil {
			t.Errorf("'/readyz%s': %s, %v", condition, last, err)
		}
	}
}

func TestStaticProxy(t *testing.T) {
	t.Parallel()
	b := newBehind(t)
	digest := b.push(t, "team/app:v1")
	p := startStatic(t, b)
	good := p.token(t, "--namespace", "shop", "--uid", "u-1234")
	const manifest = "team/app/manifests/v1"

	t.Run("a client of registries pulls", func(t *testing.T) {
		for _, front := range []string{p.https, p.http} {
			host := front[strings.Index(front, "//")+2:]
			from, err := name.ParseReference(host+"/namespaces/shop/connectors/harbor/team/app:v1", name.Insecure)
			if err != nil {
				t.Fatal(err)
			}
			image, err := remote.Image(from, remote.WithTransport(p.client.Transport), remote.WithAuth(&authn.Basic{Username: "any", Password: good}))
			if err != nil {
				t.Fatal(err)
			}
			if hash, err := image.Digest(); err != nil || hash.String() != digest {
				t.Errorf("%s: digest %s, %v, want %s", front, hash, err, digest)
			}
			layers, err := image.Layers()
			if err != nil || len(layers) != 2 {
				t.Errorf("%s: %d layers, %v", front, len(layers), err)
			}
			for _, layer := range layers {
				content, err := layer.Compressed() // checks the digest
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, content); err != nil {
					t.Error(err)
				}
				_ = content.Close()
			}
		}
	})

	t.Run("it is ready once it listens everywhere", p.testReady)

	t.Run("HTTP/2 is spoken", func(t *testing.T) {
		transport, _ := p.client.Transport.(*http.Transport)
		speaking := transport.Clone()
		speaking.ForceAttemptHTTP2 = true
		defer speaking.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.https+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("any", good)
		response, err := (&http.Client{Transport: speaking}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.ProtoMajor != 2 || response.StatusCode != http.StatusOK {
			t.Errorf("%s by %s", response.Status, response.Proto)
		}
	})

	t.Run("others are refused", func(t *testing.T) {
		for what, test := range map[string]struct {
			token string
			want  int
		}{
			"no token":             {"", http.StatusUnauthorized},
			"another namespace":    {p.token(t, "--namespace", "other"), http.StatusForbidden},
			"the namespace before": {p.token(t, "--namespace", "shop"), http.StatusUnauthorized},
		} {
			if got := p.status(t, p.https, test.token, manifest); got != test.want {
				t.Errorf("%s: status %d, want %d", what, got, test.want)
			}
		}
	})

	t.Run("a client of the forward proxy needs no login", func(t *testing.T) { p.testForward(t, b) })

	t.Run("a Secret that changes is followed", func(t *testing.T) {
		b.password.Store(new("second"))
		if got := p.status(t, p.https, good, manifest); got != http.StatusBadGateway {
			t.Errorf("status %d with the old password", got)
		}
		write(t, filepath.Join(p.directory, "login.yaml"), fmt.Sprintf(staticSecret, "second"))
		p.log.await(t, func(line map[string]any) bool { return line["msg"] == "read the manifests again" })
		if got := p.status(t, p.https, good, manifest); got != http.StatusOK {
			t.Errorf("status %d with the new password", got)
		}
	})

	t.Run("a broken manifest changes nothing", func(t *testing.T) {
		broken := fmt.Sprintf(staticSecret, "*third") + "dta: {}\n"
		write(t, filepath.Join(p.directory, "login.yaml"), broken)
		line := p.log.await(t, func(line map[string]any) bool { return line["msg"] == "go on with the manifests from before" })
		said, _ := line["error"].(string)
		if !strings.Contains(said, "login.yaml:1: document 1: ") || strings.Contains(said, "third") {
			t.Errorf("it says: %s", said)
		}
		if got := p.status(t, p.https, good, manifest); got != http.StatusOK {
			t.Errorf("status %d", got)
		}
	})

	t.Run("a pull in flight comes to its end", func(t *testing.T) {
		responses := map[string]*http.Response{}
		for _, front := range []string{p.https, p.http} {
			response, err := p.get(t, front, good, "team/slow/blobs/sha256:"+strings.Repeat("a", 64))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			responses[front] = response
		}
		response, err := p.forwarded(t, "shop", "proxy").Get(b.URL + "/v2/team/slow/blobs/sha256:" + strings.Repeat("a", 64))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		responses["forward"] = response
		if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.client.CloseIdleConnections()
		closed(t, p.https)
		close(b.held)
		for front, response := range responses {
			if body, err := io.ReadAll(response.Body); err != nil || len(body) != 2*len(half()) {
				t.Errorf("%s: it ends after %d bytes: %v", front, len(body), err)
			}
			_ = response.Body.Close()
		}
		p.client.CloseIdleConnections()
		for _, message := range []string{"registry request", "forward request"} {
			p.log.await(t, func(line map[string]any) bool { return line["msg"] == message && line["repository"] == "team/slow" })
		}
		if err := p.command.Wait(); err != nil {
			t.Errorf("it ends with %v", err)
		}
	})
	for _, secret := range []string{"first", "second", "third", good} {
		p.log.mu.Lock()
		if strings.Contains(p.log.text.String(), secret) {
			t.Errorf("'%s' stands in the log", secret)
		}
		p.log.mu.Unlock()
	}
}

// closed returns once nobody takes connections there.
func closed(t *testing.T, front string) {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	end := time.After(patience)
	for {
		conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(front, "https://"))
		if err != nil {
			return
		}
		_ = conn.Close()
		select {
		case <-time.After(5 * time.Millisecond):
		case <-end:
			t.Fatal("it takes connections after the signal to end")
		}
	}
}

// The example of docs/static.md runs as it is pasted, but for its first block: the registry and the ports are the test's.
func TestStaticDocument(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: the example needs %s", program)
		}
	}
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "static.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(document), -1)
	if len(blocks) < 5 || !strings.HasPrefix(blocks[0][1], "REGISTRY=") {
		t.Fatalf("the document has %d blocks", len(blocks))
	}
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "robot" || password != "hunter2" || r.URL.Path != "/v2/library/app/manifests/v1" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "the manifest")
	}))
	t.Cleanup(registry.Close)
	free := freeAddresses(t, 3)
	proxy, forward, health := free[0], free[1], free[2]
	script := fmt.Sprintf("set -e\ntrap 'kill $! 2>/dev/null; wait' EXIT\nREGISTRY=%s REGISTRY_USER=robot REGISTRY_PASSWORD=hunter2 PROXY=%s FORWARD=%s\n", registry.URL, proxy, forward)
	for _, block := range blocks[1:] {
		script += block[1]
	}
	script = strings.ReplaceAll(script, "127.0.0.1:8081", health)
	flags := " --allow-addresses 127.0.0.0/8 --leave 0s --metrics-address 0 --health-address " + health + " &"
	script = strings.Replace(script, " &\ncurl", flags+"\ncurl", 1)
	c := exec.CommandContext(t.Context(), "sh", "-c", script)
	c.Dir = t.TempDir()
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil || !strings.HasSuffix(string(out), "the manifestthe manifest") {
		t.Errorf("%v: %s\n%s", err, out, said.String())
	}
}

// freeAddresses are as many, none of them twice.
func freeAddresses(t *testing.T, count int) (all []string) {
	t.Helper()
	for range count {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		all = append(all, listener.Addr().String())
	}
	return all
}
