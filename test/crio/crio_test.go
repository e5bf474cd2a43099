package crio_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/reference"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
	"golang.org/x/sys/unix"
)

const (
	host    = "c-harbor.demo.svc.cluster.local"
	image   = host + "/namespaces/demo/connectors/harbor/test/abc:v1"
	address = "10.96.7.7" // in the goldens
	own     = "127.0.0.7" // in this network
	token   = "the.pull.token"
)

// theirs is what an administrator may have: it must win over nothing of ours, and ours over nothing else of it.
const theirs = `
[[registry]]
prefix = "*.svc.cluster.local"
insecure = true
[[registry.mirror]]
location = "mirror.test"
insecure = true

[[registry]]
prefix = "quay.io"
location = "quay.mirror.test"
`

// node is what CRI-O finds on a node.
type node struct {
	*testing.T
	types.SystemContext
}

// newNode has the goldens' drop-in beside another, and the goldens' /etc/hosts.
func newNode(t *testing.T, dropIn string) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{t, types.SystemContext{
		SystemRegistriesConfPath:    filepath.Join(dir, "registries.conf"),
		SystemRegistriesConfDirPath: filepath.Join(dir, "registries.conf.d"),
		DockerPerHostCertDirPath:    filepath.Join(dir, "certs.d"),
		DockerAuthConfig:            &types.DockerAuthConfig{Username: "any", Password: token}, // what kubelet hands to CRI-O
		AuthFilePath:                filepath.Join(dir, "none.json"),
		SignaturePolicyPath:         filepath.Join(dir, "none"),
	}}
	n.write(n.SystemRegistriesConfPath, "")
	n.write(filepath.Join(n.SystemRegistriesConfDirPath, "00-theirs.conf"), theirs)
	n.write(filepath.Join(n.SystemRegistriesConfDirPath, "50-berth.conf"), dropIn)
	hosts := filepath.Join(dir, "hosts")
	n.write(hosts, strings.ReplaceAll(golden(t, "etc-hosts"), address, own))
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/etc/hosts", 0); err != nil {
			t.Error(err)
		}
		sysregistriesv2.InvalidateCache()
	})
	return n
}

func (n *node) write(name, content string) {
	n.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		n.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		n.Fatal(err)
	}
}

// golden is what package csi writes; its tests hold it to that.
func golden(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../csi/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestResolves: the connector's host is that host over TLS and nothing else is, whatever an administrator says of a wildcard.
func TestResolves(t *testing.T) {
	n := newNode(t, golden(t, "crio.conf"))
	for name, tc := range map[string]struct {
		image    string
		want     []string // where it is pulled from, in order
		insecure bool
	}{
		"the connector's":   {image, []string{image}, false},
		"by digest":         {strings.TrimSuffix(image, ":v1") + "@sha256:" + strings.Repeat("a", 64), []string{strings.TrimSuffix(image, ":v1") + "@sha256:" + strings.Repeat("a", 64)}, false},
		"no connector":      {"registry.demo.svc.cluster.local/x:v1", []string{"mirror.test/x:v1", "registry.demo.svc.cluster.local/x:v1"}, true},
		"of another domain": {host + ".example.com/x:v1", nil, false},
		"longer":            {"x." + host + "/x:v1", []string{"mirror.test/x:v1", "x." + host + "/x:v1"}, true},
		"with a port":       {host + ":8443/x:v1", []string{host + ":8443/x:v1"}, false},
		"theirs":            {"quay.io/x:v1", []string{"quay.mirror.test/x:v1"}, false},
		"nobody's":          {"docker.io/library/nginx:v1", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			ref, err := reference.ParseNormalizedNamed(tc.image)
			if err != nil {
				t.Fatal(err)
			}
			registry, err := sysregistriesv2.FindRegistry(&n.SystemContext, ref.Name())
			if err != nil {
				t.Fatal(err)
			}
			if registry == nil {
				if tc.want != nil {
					t.Fatal("nothing is said of it")
				}
				return
			}
			sources, err := registry.PullSourcesFromReference(ref)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range sources {
				got = append(got, s.Reference.String())
				if s.Endpoint.Insecure != tc.insecure {
					t.Errorf("'%s' is insecure: %t", s.Reference, s.Endpoint.Insecure)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.want) || registry.Blocked {
				t.Errorf("pulled from %v (blocked %t), want %v", got, registry.Blocked, tc.want)
			}
		})
	}
}

// TestPulls: with what stands on the node the library finds the proxy by the image's own name, verifies it, and sends it the Pod's pull secret.
func TestPulls(t *testing.T) {
	n := newNode(t, golden(t, "crio.conf"))
	p := newProxy(t)
	n.write(filepath.Join(n.DockerPerHostCertDirPath, host, "ca.crt"), firstLine(golden(t, "crio.conf"))+p.authority)
	if err := n.pull(); err != nil {
		t.Fatal(err)
	}
	if want := []string{host + " /v2/namespaces/demo/connectors/harbor/test/abc/manifests/v1 any:" + token}; fmt.Sprint(p.seen()) != fmt.Sprint(want) {
		t.Errorf("the proxy has seen %v, want %v", p.seen(), want)
	}
}

// TestPullsOnlyVerified: without the certificate nothing is sent, in spite of the administrator's `insecure` for the domain.
func TestPullsOnlyVerified(t *testing.T) {
	n := newNode(t, golden(t, "crio.conf"))
	p := newProxy(t)
	if err := n.pull(); err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("pull: %v", err)
	}
	if len(p.seen()) > 0 {
		t.Errorf("the proxy has seen %v", p.seen())
	}
}

// TestLocationElsewhereLosesTheSecret is why the drop-in leads nowhere else: for another host the library drops the Pod's pull secret.
func TestLocationElsewhereLosesTheSecret(t *testing.T) {
	n := newNode(t, fmt.Sprintf("[[registry]]\nprefix = %q\nlocation = %q\n", host, own))
	p := newProxy(t)
	n.write(filepath.Join(n.DockerPerHostCertDirPath, own, "ca.crt"), p.authority)
	if err := n.pull(); err == nil || !strings.Contains(err.Error(), "unauthorized") {
		t.Errorf("pull: %v", err)
	}
	if len(p.seen()) > 0 {
		t.Errorf("the proxy has seen %v", p.seen())
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line + "\n"
}

// pull reads an image's manifest, as the first step of a pull.
func (n *node) pull() error {
	n.Helper()
	ref, err := docker.ParseReference("//" + image)
	if err != nil {
		n.Fatal(err)
	}
	source, err := ref.NewImageSource(n.Context(), &n.SystemContext)
	if err != nil {
		return err
	}
	defer source.Close()
	_, _, err = source.GetManifest(n.Context(), nil)
	return err
}

// proxy is the far end: it demands the token, over TLS, on the port of names without one.
type proxy struct {
	authority string

	mu       sync.Mutex
	requests []string
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	p := &proxy{}
	listener, err := net.Listen("tcp", own+":443")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0)}, TLS: &tls.Config{Certificates: []tls.Certificate{p.certificate(t)}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return p
}

// certificate is for the connector's host and the Service's address, as the proxy's is.
func (p *proxy) certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{host}, IPAddresses: []net.IP{net.ParseIP(own)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	p.authority = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, ok := r.BasicAuth()
	if !ok || password != token {
		w.Header().Set("Www-Authenticate", `Basic realm="berth"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}`, http.StatusUnauthorized)
		return
	}
	p.mu.Lock()
	p.requests = append(p.requests, r.Host+" "+r.URL.Path+" "+user+":"+password)
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	_, _ = io.WriteString(w, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"sha256:`+strings.Repeat("a", 64)+`"},"layers":[]}`)
}

func (p *proxy) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}
