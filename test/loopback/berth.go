package loopback

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/yaml"
)

// Berth is `berth proxy --static` of a site.
type Berth struct {
	*Process

	// HTTPS and HTTP are its addresses.
	HTTPS, HTTP string
	// Forward is the 'host:port' of the forward proxy, and Interception the directory of its authorities, for a Berth of Forward.
	Forward, Interception string
	// Authority signed its certificate.
	Authority *Authority
	// Manifests is the directory that it reads.
	Manifests string

	site    *Site
	program string
	key     string
	health  string
	args    []string
	hosts   []string // what its program is started through
}

// Namespace is that of every Connector and token of a site.
const Namespace = "demo"

// Berth starts it with Connectors, by their names; all grant the Namespace everything
// but what they say themselves. It is reached over HTTPS with a certificate of the
// site's authority, and over HTTP, which an administrator must have turned on.
func (s *Site) Berth(connectors map[string]Connector) *Berth {
	s.Helper()
	b := s.berth(connectors, s.Authority)
	b.start()
	return b
}

// Forward starts it with the forward proxy too. Its certificates are of an authority of
// its own, so that who trusts Berth does not trust the registries. It knows the hosts of Connectors.
func (s *Site) Forward(connectors map[string]Connector) *Berth {
	s.Helper()
	b := s.berth(connectors, newAuthority(s, "authority-of-berth"))
	b.hosts = s.knowing(connectors)
	b.Forward, b.Interception = local(s.Port()), s.Path("interception")
	b.args = append(b.args, "--forward-address", b.Forward, "--interception", b.Interception)
	b.start()
	return b
}

// knowing is what starts a program in a mount namespace of its own, where the file of hosts has those of the Connectors.
func (s *Site) knowing(connectors map[string]Connector) []string {
	s.Helper()
	hosts := []string{"127.0.0.1", "localhost"}
	for _, c := range connectors {
		hosts = append(hosts, c.Host)
	}
	unshare := []string{s.Program("", "unshare", "it is in util-linux"), "--mount"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--map-root-user")
	}
	unshare = append(unshare, "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, s.Write("hosts", strings.Join(hosts, " ")+"\n"))
	if out, err := exec.CommandContext(s.Context(), unshare[0], append(slices.Clone(unshare[1:]), "true")...).CombinedOutput(); err != nil {
		s.Skipf("SKIPPED: there is no mount namespace to be had: %v: %s", err, out)
	}
	return unshare
}

// berth prepares it.
func (s *Site) berth(connectors map[string]Connector, authority *Authority) *Berth {
	s.Helper()
	program := os.Getenv(EnvBerth)
	if program == "" {
		s.Skip("SKIPPED: the program 'berth' is missing; run this through `make`")
	}
	dir := "berth-" + rand.String(8)
	b := &Berth{site: s, program: program, Authority: authority, Manifests: s.Path(dir, "manifests"), key: s.Path(dir, "token.jwks")}
	s.OK(os.MkdirAll(b.Manifests, 0o755))
	b.run("token", "new-key", "--key", b.key)
	s.Write(dir+"/manifests/keys.yaml", b.run("token", "public-keys", "--key", b.key))
	for name, c := range connectors {
		s.Write(dir+"/manifests/"+name+".yaml", c.manifests(s, name))
	}
	certificate, key := authority.IssueFiles(dir+"/tls", "*."+Namespace+".svc.cluster.local")
	https, plain := s.Port(), s.Port()
	b.HTTPS, b.HTTP, b.health = "https://"+local(https), "http://"+local(plain), local(s.Port())
	b.args = []string{
		"proxy", "--static", b.Manifests, "--tls-certificate", certificate, "--tls-key", key,
		"--registry-address", local(https), "--http-address", local(plain), "--allow-addresses", "127.0.0.0/8",
		"--health-address", b.health, "--metrics-address", "0", "--leave", "10ms",
	}
	return b
}

func (b *Berth) start() {
	b.site.Helper()
	line := slices.Concat(b.hosts, []string{b.program}, b.args)
	b.Process = b.site.Start("berth", line[0], line[1:]...)
	b.site.Eventually("berth to be ready", func(ctx context.Context) error {
		if !b.Running() {
			b.site.Fatalf("berth ended:\n%s", b.Log())
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.health+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := b.site.Client().Do(r)
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return errors.Join(errors.New(response.Status), response.Body.Close())
		}
		return response.Body.Close()
	})
}

// Restart ends Berth as systemd does, and starts it again.
func (b *Berth) Restart() {
	b.site.Helper()
	b.Stop(syscall.SIGTERM)
	b.start()
}

// Token makes a token for a namespace, good for 'pull' or 'proxy'.
func (b *Berth) Token(namespace, audience string) string {
	b.site.Helper()
	return strings.TrimSpace(b.run("token", "--key", b.key, "--namespace", namespace, "--audience", audience, "--for", time.Hour.String()))
}

// run runs a command of berth to its end, and returns what it prints.
func (b *Berth) run(args ...string) string {
	b.site.Helper()
	out, err := exec.CommandContext(b.site.Context(), b.program, args...).Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		b.site.Fatalf("berth %s: %v\n%s", strings.Join(args, " "), err, failed.Stderr)
	}
	b.site.OK(err)
	return string(out)
}

// API is where the repositories of a Connector are, as the path of HTTPS and HTTP.
func API(connector string) string {
	return "/v2/" + Below(connector)
}

// Below is what stands before a repository of a Connector in the name of an image.
func Below(connector string) string {
	return fmt.Sprintf("namespaces/%s/connectors/%s/", Namespace, connector)
}

// Connector is what a manifest says of one.
type Connector struct {
	// Registry is what it leads to, with the credential.
	Registry *Registry
	// Host is the name of its address, in the place of localhost, for a Berth of Forward.
	Host string
	// Class is its ConnectorClass, 'oci' where it is empty.
	Class string
	// API are the paths that the Class opens, for reading and for POST, where it is a class of the site's own.
	API []string
	// Repositories and Actions are what it grants the Namespace; empty: all.
	Repositories, Actions []string
}

func (c Connector) manifests(s *Site, name string) string {
	s.Helper()
	class, actions := c.Class, c.Actions
	if class == "" {
		class = "oci"
	}
	if len(actions) == 0 {
		actions = []string{"pull", "push", "delete"}
	}
	address := c.Registry.Address
	if c.Host != "" {
		address = strings.Replace(address, "localhost", c.Host, 1)
	}
	meta := func(name string) map[string]any { return map[string]any{"name": name, "namespace": Namespace} }
	connector := map[string]any{
		"apiVersion": "connectors.berth.dev/v1alpha1", "kind": "Connector", "metadata": meta(name),
		"spec": map[string]any{
			"connectorClassName": class, "address": address,
			"auth":            map[string]any{"name": "basicAuth", "secretRef": map[string]any{"name": name + "-credential"}},
			"caCertSecretRef": map[string]any{"name": name + "-ca"},
			"access":          []any{map[string]any{"namespaces": map[string]any{"from": "Same"}, "repositories": c.Repositories, "actions": actions}},
		},
	}
	credential := map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": meta(name + "-credential"), "type": "kubernetes.io/basic-auth",
		"stringData": map[string]any{"username": c.Registry.Username, "password": c.Registry.Password},
	}
	authority := map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": meta(name + "-ca"),
		"stringData": map[string]any{"ca.crt": string(s.Authority.PEM)},
	}
	all := []any{connector, credential, authority}
	if len(c.API) > 0 {
		all = append(all, map[string]any{
			"apiVersion": "connectors.berth.dev/v1alpha1", "kind": "ConnectorClass", "metadata": map[string]any{"name": class},
			"spec": map[string]any{
				"probes": map[string]any{"liveness": map[string]any{"path": "/"}, "auth": map[string]any{"path": "/"}},
				"api":    []any{map[string]any{"methods": []string{"GET", "HEAD", "POST"}, "paths": c.API}},
			},
		})
	}
	var documents []string
	for _, document := range all {
		raw, err := yaml.Marshal(document)
		s.OK(err)
		documents = append(documents, string(raw))
	}
	return strings.Join(documents, "---\n")
}
