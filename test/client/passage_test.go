package client_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/config"
	"berth.dev/berth/proxy/configuration"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/rewrite"
	"berth.dev/berth/static"
	"berth.dev/berth/test/loopback"
	"berth.dev/berth/token"
)

// passage is what a client of the forward proxy finds: in front of it the
// variables and the files that the webhook and the CSI driver give to a
// container, and behind the proxy a registry and a server of files, which both
// demand a password.
type passage struct {
	scene

	berth *loopback.Berth
	// env are the variables, and folder has the files.
	env    []corev1.EnvVar
	folder string
	// registry and files are the hosts, with their ports, as clients name them; plain is that of a server which is no
	// Connector's, and speaks HTTP in clear.
	registry, files, plain string
}

// The Connectors, which have the names of their hosts.
const (
	registryName = "registry"
	filesName    = "files"
)

func newPassage(t *testing.T) *passage {
	t.Helper()
	site := loopback.New(t)
	registry, files := site.Basic(), newFiles(site)
	berth := site.Forward(map[string]loopback.Connector{
		registryName: {Registry: registry, Host: loopback.Host(registryName)},
		filesName: {
			Registry: files, Host: loopback.Host(filesName), Class: "files", Actions: []string{"api"},
			API: []string{"/plain/**", "/git/**", "/simple/**", "/npm/**"},
		},
	})
	p := &passage{
		scene: scene{Site: site, upstream: registry, token: berth.Token(loopback.Namespace, "proxy")}, berth: berth, folder: site.Path("volume"),
		registry: hostOf(registry, registryName), files: hostOf(files, filesName),
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, plainContent) }))
	t.Cleanup(plain.Close)
	p.plain = loopback.Host(filesName) + strings.TrimPrefix(plain.URL, "http://127.0.0.1")
	p.env = p.injected()
	p.mount()
	return p
}

func hostOf(r *loopback.Registry, name string) string {
	return loopback.Host(name) + strings.TrimPrefix(r.Address, "https://localhost")
}

// of is the passage of one client, with a home of its own.
func (p *passage) of(t *testing.T, client string) *passage {
	t.Helper()
	one := *p
	one.Site = p.At(t)
	one.root = strings.Join(regexp.MustCompile("[a-z0-9]+").FindAllString(strings.ToLower(client), -1), "-")
	one.home = p.Path(one.root)
	p.OK(os.MkdirAll(one.home, 0o755))
	one.host, one.below = p.registry, ""
	return &one
}

// injected are the variables that the webhook adds to a container, as its process sees them: kubelet takes the token from
// the Secret, and replaces references.
func (p *passage) injected() []corev1.EnvVar {
	p.Helper()
	policy := config.Default()
	policy.Proxy.Address = p.berth.Forward
	policy.Files.Enabled, policy.Files.MountPath = true, p.folder
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationProxy: v1alpha1.ProxyAlways}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "client", Image: "client"}}},
	}
	out, _, err := rewrite.Pod(pod, rewrite.Namespace{Name: loopback.Namespace}, &access.Catalogue{}, &policy)
	p.OK(err)
	known := []string{"$(KUBERNETES_SERVICE_HOST)", "10.96.0.1"}
	env := slices.Clone(out.Spec.Containers[0].Env)
	for i := range env {
		if from := env[i].ValueFrom; from != nil {
			if from.SecretKeyRef == nil || from.SecretKeyRef.Name != v1alpha1.ProxySecret {
				p.Fatalf("`%s` comes from %v", env[i].Name, from)
			}
			env[i] = corev1.EnvVar{Name: env[i].Name, Value: p.token}
		}
		env[i].Value = strings.NewReplacer(known...).Replace(env[i].Value)
		known = append(known, "$("+env[i].Name+")", env[i].Value)
	}
	return env
}

// mount writes the files that the CSI driver mounts, as the proxy makes them.
func (p *passage) mount() {
	p.Helper()
	directory, err := static.Open(p.berth.Manifests, static.Reader{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, slog.New(slog.DiscardHandler))
	p.OK(err)
	intercepted, err := os.ReadFile(filepath.Join(p.berth.Interception, v1alpha1.FileCA))
	p.OK(err)
	handler, err := configuration.New(configuration.Options{
		Catalogue: directory.Catalogue(), Classes: &configuration.Classes{}, Interception: &configuration.Interception{}, Log: slog.New(slog.DiscardHandler),
		Identity:      identity.New(directory.Keys, namespaces{directory}, time.Now, token.AudienceProxy),
		Authorities:   func() []byte { return append(slices.Clone(p.berth.Authority.PEM), intercepted...) },
		ClusterDomain: v1alpha1.ClusterDomain, ForwardAddress: p.berth.Forward,
	})
	p.OK(err)
	r := httptest.NewRequestWithContext(p.Context(), http.MethodGet, v1alpha1.FilesPath+"?"+url.Values{v1alpha1.VolumeMountPath: {p.folder}}.Encode(), nil)
	r.Header.Set("Authorization", "Bearer "+p.token)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, r)
	var made v1alpha1.Files
	if err := cbor.Unmarshal(answer.Body.Bytes(), &made); err != nil || answer.Code != http.StatusOK {
		p.Fatalf("%d %s: %v", answer.Code, answer.Body, err)
	}
	for name, content := range made.Files {
		p.Write(filepath.Join("volume", name), string(content))
	}
}

// namespaces are those of a directory of manifests.
type namespaces struct{ *static.Directory }

// Namespace implements identity.Namespaces.
func (n namespaces) Namespace(name string) (identity.Namespace, bool) {
	uid, labels := n.State().Namespace(name)
	return identity.Namespace{UID: uid, Labels: labels}, true
}

// run runs a client to its end with what is injected, a home of its own, and nothing else, and returns what it prints.
func (p *passage) run(program string, args ...string) string {
	p.Helper()
	cmd := exec.CommandContext(p.Context(), program, args...)
	cmd.Dir = p.home
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.home, "TMPDIR=" + p.home, "XDG_RUNTIME_DIR=" + p.home}
	for _, v := range p.env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		p.Fatalf("%s %s: %v\n%s%s", filepath.Base(program), strings.Join(args, " "), err, out, said.String())
	}
	return string(out)
}

// blob puts an image into the registry and returns a blob of it, and where that is to be had through the forward
// proxy and through the reverse proxy.
func (p *passage) blob() (content, forward, reverse string) {
	p.Helper()
	image := p.seed("fetched", "v1")
	raw, err := image.RawConfigFile()
	p.OK(err)
	digest, err := image.ConfigName()
	p.OK(err)
	path := p.root + "/fetched/blobs/" + digest.String()
	return string(raw), "https://" + p.registry + "/v2/" + path, p.berth.HTTPS + loopback.API(registryName) + path
}

// gets runs a client that prints what it gets.
func (p *passage) gets(program string, args ...string) {
	p.Helper()
	content, forward, _ := p.blob()
	if got := p.run(program, append(args, forward)...); got != content {
		p.Errorf("it got '%s', want '%s'", got, content)
	}
}

// getsInstead runs a client that takes no proxy, at the reverse proxy, with the token of the volume.
func (p *passage) getsInstead(program string, args ...string) {
	p.Helper()
	content, _, reverse := p.blob()
	if got := p.run(program, append(args, reverse, filepath.Join(p.folder, v1alpha1.FileToken))...); got != content {
		p.Errorf("it got '%s', want '%s'", got, content)
	}
}
