package main

import (
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

//go:embed squid.conf
var squidConf string

// certGenerator is what squid makes certificates by, where Debian puts it.
const certGenerator = "/usr/lib/squid/security_file_certgen"

// interceptor is a forward proxy that ends TLS, one of those that are compared.
type interceptor struct {
	name    string
	process *process // nil: the client goes straight to the registry
	url     string   // of the proxy, with a token where it asks for one
	ca      string   // file of the authorities that the client trusts
}

// arguments are what a client is given to go by the proxy. Without one it signs in by itself.
func (i *interceptor) arguments() []string {
	if i.process == nil {
		return []string{"-ca", i.ca, "-user", username, "-password", password}
	}
	return []string{"-ca", i.ca, "-proxy", i.url}
}

// cpu is the time that the processors have spent on it, in seconds.
func (i *interceptor) cpu() (float64, error) {
	if i.process == nil {
		return 0, nil
	}
	return i.process.cpu()
}

// interceptors starts Berth and its peers; one that is not installed is left out, loudly.
func (s *stage) interceptors(ctx context.Context) ([]*interceptor, error) {
	ours, err := s.interceptByBerth(ctx)
	if err != nil {
		return nil, err
	}
	all := []*interceptor{ours}
	if s.wants("direct") {
		all = append(all, s.direct())
	}
	for name, args := range map[string][]string{"goproxy": nil, "goproxy-pooled": {"-pooled"}} {
		if !s.wants(name) {
			continue
		}
		i, err := s.intercept(ctx, name, func(address string) (*process, error) {
			return s.start(ctx, s.self, append([]string{"mitm", "-address", address, "-ca", s.file("tls.crt"), "-certificate", s.file("tls.crt"), "-key", s.file("tls.key")}, args...)...)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	for _, peer := range []struct {
		name, program string
		start         func(program, address string) (*process, error)
	}{
		{"squid", "squid", func(program, address string) (*process, error) { return s.startSquid(ctx, program, address) }},
		{"mitmproxy", "mitmdump", func(program, address string) (*process, error) { return s.startMitmproxy(ctx, program, address) }},
	} {
		if !s.wants(peer.name) {
			continue
		}
		program, err := find(peer.program)
		if err != nil {
			fmt.Fprintf(os.Stderr, "SKIPPED: %s is not installed; as root: apt-get install -y --no-install-recommends squid-openssl mitmproxy\n", peer.name)
			continue
		}
		i, err := s.intercept(ctx, peer.name, func(address string) (*process, error) { return peer.start(program, address) })
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, nil
}

// direct is no proxy at all.
func (s *stage) direct() *interceptor { return &interceptor{name: "direct", ca: s.file("tls.crt")} }

// intercept starts a forward proxy on a free address.
func (s *stage) intercept(ctx context.Context, name string, start func(address string) (*process, error)) (*interceptor, error) {
	address, err := free(ctx)
	if err != nil {
		return nil, err
	}
	p, err := start(address)
	if err != nil {
		return nil, err
	}
	return &interceptor{name: name, process: p, url: "http://" + address, ca: s.file("tls.crt")}, s.listening(ctx, p, address)
}

// squidUser is whom squid becomes where it is started by root.
const squidUser = "proxy"

func (s *stage) startSquid(ctx context.Context, program, address string) (*process, error) {
	folder := s.file("squid")
	file, err := s.configure("squid", squidConf, map[string]any{"Plain": address, "CertGenerator": certGenerator, "User": squidUser, "Folder": folder})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(folder), os.Mkdir(folder, 0o700)); err != nil {
		return nil, err
	}
	if _, err := s.output(ctx, certGenerator, "-c", "-s", filepath.Join(folder, "certificates"), "-M", "16MB"); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 {
		if err := s.give(folder, squidUser); err != nil {
			return nil, err
		}
	}
	p, err := s.start(ctx, program, "-N", "-n", fmt.Sprintf("bench%d", os.Getpid()), "-f", file)
	if err == nil {
		p.tidies = true // its shared memory has names
	}
	return p, err
}

// give makes a user the owner of a folder.
func (s *stage) give(folder, name string) error {
	who, err := user.Lookup(name)
	if err != nil {
		return err
	}
	id, err := strconv.Atoi(who.Uid)
	if err != nil {
		return err
	}
	return errors.Join(os.Chmod(s.folder, 0o711), filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, id, -1))
	}))
}

func (s *stage) startMitmproxy(ctx context.Context, program, address string) (*process, error) {
	folder := s.file("mitmproxy")
	pair, err := os.ReadFile(s.file("pair.pem"))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, "mitmproxy-ca.pem"), pair, 0o600)); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return s.start(ctx, program, "--quiet", "--listen-host", host, "--listen-port", port,
		"--set", "confdir="+folder, "--set", "ssl_verify_upstream_trusted_ca="+s.file("tls.crt"), "--set", "stream_large_bodies=1m", "--set", "http2=false",
		"--modify-headers", "/~q/Authorization/Basic "+base64.StdEncoding.EncodeToString([]byte(username+":"+password)))
}

// interceptByBerth starts Berth's forward proxy.
func (s *stage) interceptByBerth(ctx context.Context) (*interceptor, error) {
	folder, err := os.MkdirTemp(s.folder, "berth-")
	if err != nil {
		return nil, err
	}
	if err := s.writeManifests(ctx, folder, s.target()); err != nil {
		return nil, err
	}
	token, err := s.mint(ctx, folder, "--audience", "proxy")
	if err != nil {
		return nil, err
	}
	authorities := filepath.Join(folder, "interception")
	i, err := s.intercept(ctx, "berth", func(address string) (*process, error) {
		return s.start(ctx, s.berth, append(s.static(folder), "--registry-address", "127.0.0.1:0", "--metrics-address", "0",
			"--forward-address", address, "--interception", authorities, "--max-tunnels-per-namespace", strconv.Itoa(2*tunnelsStanding))...)
	})
	if err != nil {
		return nil, err
	}
	i.ca = filepath.Join(authorities, "ca.crt")
	by, err := url.Parse(i.url)
	if err != nil {
		return nil, err
	}
	by.User = url.UserPassword("berth", token)
	i.url = by.String()
	return i, nil
}

// target is the registry by a name, since there are no certificates of Connectors for addresses.
func (s *stage) target() string {
	_, port, _ := net.SplitHostPort(s.registry) // it was made by free
	return net.JoinHostPort("localhost", port)
}
