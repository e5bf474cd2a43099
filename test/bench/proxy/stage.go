package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed nginx.conf
var nginxConf string

//go:embed haproxy.cfg
var haproxyCfg string

// stage is where a benchmark plays: files, and processes.
type stage struct {
	self, berth  string
	distribution string // the program of the registry; or empty
	folder       string
	rounds       int
	beside       string // the only peer that is measured, if it is not empty
	processes    []*process

	registry, tokenRegistry string // addresses
	plainRegistry           string // of the registry in clear
}

// proxy is one of those that are compared.
type proxy struct {
	name       string
	process    *process
	plain, tls string // the URLs of the repository's API
	user       string
	password   string
	// metrics is the address of the Prometheus metrics, where there are any.
	metrics string
}

func newStage(ctx context.Context, berth string, rounds int, beside string) (*stage, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "berth-bench-")
	if err != nil {
		return nil, err
	}
	s := &stage{self: self, berth: berth, folder: folder, rounds: rounds, beside: beside}
	if err := s.certificates(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	if s.plainRegistry, err = free(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	for _, registry := range []struct {
		address *string
		args    []string
	}{{&s.registry, []string{"-plain", s.plainRegistry}}, {&s.tokenRegistry, []string{"-tokens"}}} {
		if *registry.address, err = s.playRegistry(ctx, registry.args); err != nil {
			s.clear()
			return nil, err
		}
	}
	return s, nil
}

func (s *stage) playRegistry(ctx context.Context, args []string) (address string, err error) {
	if address, err = free(ctx); err != nil {
		return "", err
	}
	p, err := s.start(ctx, s.self, append([]string{"registry", "-address", address, "-certificate", s.file("tls.crt"), "-key", s.file("tls.key")}, args...)...)
	if err != nil {
		return "", err
	}
	return address, s.listening(ctx, p, address)
}

// wants reports whether a peer is to be measured.
func (s *stage) wants(peer string) bool { return s.beside == "" || s.beside == peer }

func (s *stage) file(name string) string { return filepath.Join(s.folder, name) }

// clear ends all processes and removes all files.
func (s *stage) clear() {
	for _, p := range s.processes {
		p.end()
	}
	_ = os.RemoveAll(s.folder)
}

// certificates makes one certificate for 127.0.0.1, which is its own authority.
func (s *stage) certificates() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"127.0.0.1", "localhost"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	return errors.Join(
		os.WriteFile(s.file("tls.crt"), certificate, 0o600), os.WriteFile(s.file("tls.key"), secret, 0o600),
		os.WriteFile(s.file("pair.pem"), append(certificate, secret...), 0o600),
	)
}

// free returns an address that nobody listens on.
func free(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// play starts a proxy on two free addresses.
func (s *stage) play(ctx context.Context, name string, start func(plain, secure string) (*process, error)) (*proxy, error) {
	plain, err := free(ctx)
	if err != nil {
		return nil, err
	}
	secure, err := free(ctx)
	if err != nil {
		return nil, err
	}
	p, err := start(plain, secure)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.listening(ctx, p, plain), s.listening(ctx, p, secure)); err != nil {
		return nil, err
	}
	return &proxy{name: name, process: p, plain: "http://" + plain + "/v2/", tls: "https://" + secure + "/v2/"}, nil
}

func (s *stage) playBare(ctx context.Context) (*proxy, error) {
	return s.play(ctx, "bare", func(plain, secure string) (*process, error) {
		return s.start(ctx, s.self, "bare", "-plain", plain, "-tls", secure, "-upstream", s.registry, "-ca", s.file("tls.crt"),
			"-certificate", s.file("tls.crt"), "-key", s.file("tls.key"))
	})
}

// playPeer starts nginx or haproxy by its configuration.
func (s *stage) playPeer(ctx context.Context, name, configuration string, args ...string) (*proxy, error) {
	program, err := find(name)
	if err != nil {
		return nil, err
	}
	return s.play(ctx, name, func(plain, secure string) (*process, error) {
		file, err := s.configure(name, configuration, map[string]any{"Plain": plain, "TLS": secure})
		if err != nil {
			return nil, err
		}
		return s.start(ctx, program, append(args, file)...)
	})
}

// configure writes the configuration of a peer, with what all of them need filled in.
func (s *stage) configure(name, configuration string, values map[string]any) (file string, err error) {
	maps.Copy(values, map[string]any{
		"Dir": s.folder, "Certificate": s.file("tls.crt"), "Key": s.file("tls.key"), "Pair": s.file("pair.pem"), "CA": s.file("tls.crt"),
		"Upstream": s.registry, "Threads": runtime.NumCPU(), "Basic": base64.StdEncoding.EncodeToString([]byte(username + ":" + password)),
	})
	var text strings.Builder
	if err := template.Must(template.New(name).Parse(configuration)).Execute(&text, values); err != nil {
		return "", err
	}
	file = s.file(name + ".conf")
	return file, os.WriteFile(file, []byte(text.String()), 0o600)
}

// find looks where Debian puts servers, too.
func find(name string) (string, error) {
	if program, err := exec.LookPath(name); err == nil {
		return program, nil
	}
	return exec.LookPath("/usr/sbin/" + name)
}

// playBerth starts Berth in front of a registry.
func (s *stage) playBerth(ctx context.Context, registry string) (*proxy, error) {
	folder, err := os.MkdirTemp(s.folder, "berth-")
	if err != nil {
		return nil, err
	}
	if err := s.writeManifests(ctx, folder, registry); err != nil {
		return nil, err
	}
	metrics, err := free(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.play(ctx, "berth", func(plain, secure string) (*process, error) {
		return s.start(ctx, s.berth, append(s.static(folder), "--registry-address", secure, "--http-address", plain, "--metrics-address", metrics)...)
	})
	if err != nil {
		return nil, err
	}
	p.metrics = "http://" + metrics + "/metrics"
	p.plain += "namespaces/shop/connectors/bench/"
	p.tls += "namespaces/shop/connectors/bench/"
	p.user = "any"
	p.password, err = s.mint(ctx, folder)
	return p, err
}

// static are the arguments of a proxy that knows what is in the folder.
func (s *stage) static(folder string) []string {
	return []string{
		"proxy", "--static", filepath.Join(folder, "manifests"), "--allow-addresses", "127.0.0.0/8",
		"--tls-certificate", s.file("tls.crt"), "--tls-key", s.file("tls.key"), "--health-address", "127.0.0.1:0",
	}
}

// mint makes a token that a proxy of the folder takes.
func (s *stage) mint(ctx context.Context, folder string, args ...string) (string, error) {
	token, err := s.output(ctx, s.berth, append([]string{"token", "--key", filepath.Join(folder, "key"), "--namespace", "shop"}, args...)...)
	return strings.TrimSpace(string(token)), err
}

// writeManifests writes what Berth is to know: a Connector, its Secrets, and the key of tokens.
func (s *stage) writeManifests(ctx context.Context, folder, registry string) error {
	key, manifests := filepath.Join(folder, "key"), filepath.Join(folder, "manifests")
	if err := os.Mkdir(manifests, 0o700); err != nil {
		return err
	}
	if _, err := s.output(ctx, s.berth, "token", "new-key", "--key", key); err != nil {
		return err
	}
	keys, err := s.output(ctx, s.berth, "token", "public-keys", "--key", key)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(s.file("tls.crt"))
	if err != nil {
		return err
	}
	type o = map[string]any
	meta := func(name string) o { return o{"namespace": "shop", "name": name} }
	var objects strings.Builder
	for _, object := range []o{
		{"apiVersion": "connectors.berth.dev/v1alpha1", "kind": "Connector", "metadata": meta("bench"), "spec": o{
			"connectorClassName": "oci", "address": "https://" + registry,
			"auth": o{"name": "basicAuth", "secretRef": o{"name": "login"}}, "caCertSecretRef": o{"name": "ca"},
			"access": []o{{"repositories": []string{"library/*", "bench/**"}, "actions": []string{"pull", "push"}}},
		}},
		{"apiVersion": "v1", "kind": "Secret", "metadata": meta("login"), "type": "kubernetes.io/basic-auth", "stringData": o{"username": username, "password": password}},
		{"apiVersion": "v1", "kind": "Secret", "metadata": meta("ca"), "stringData": o{"ca.crt": string(ca)}},
	} {
		text, err := json.Marshal(object)
		if err != nil {
			return err
		}
		objects.Write(append(text, '\n'))
	}
	return errors.Join(
		os.WriteFile(filepath.Join(manifests, "keys.yaml"), keys, 0o600),
		os.WriteFile(filepath.Join(manifests, "bench.json"), []byte(objects.String()), 0o600),
	)
}

// output runs a program to its end.
func (*stage) output(ctx context.Context, program string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, program, args...)
	var said strings.Builder
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, said.String())
	}
	return out, nil
}

// client runs a client to its end.
func (s *stage) client(ctx context.Context, url, user, password string, args ...string) (outcome, error) {
	out, err := s.output(ctx, s.self, s.clientArgs(url, user, password, args...)...)
	if err != nil {
		return outcome{}, err
	}
	var o outcome
	return o, json.Unmarshal(out, &o)
}

func (s *stage) clientArgs(url, user, password string, args ...string) []string {
	return append([]string{"client", "-url", url, "-user", user, "-password", password, "-ca", s.file("tls.crt")}, args...)
}

// held is a client that holds pulls open.
type held struct {
	command *exec.Cmd
	stdin   io.Closer
}

// hold starts a client that holds pulls open, and returns once all of them are.
func (s *stage) hold(ctx context.Context, url string, p *proxy, count int) (*held, error) {
	return s.holdBy(ctx, s.clientArgs(url, p.user, p.password, "-slow", "-connections", strconv.Itoa(count)))
}

// holdBy starts a client that says when it holds what it is to hold.
func (s *stage) holdBy(ctx context.Context, args []string) (*held, error) {
	c := exec.CommandContext(ctx, s.self, args...)
	c.Stderr = os.Stderr
	stdin, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	line := make([]byte, 5)
	if _, err := io.ReadFull(stdout, line); err != nil {
		return nil, errors.Join(errors.New("the slow client ended"), c.Wait())
	}
	return &held{c, stdin}, nil
}

func (h *held) end() error { return errors.Join(h.stdin.Close(), h.command.Wait()) }
