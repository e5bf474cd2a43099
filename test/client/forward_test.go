package client_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	corev1 "k8s.io/api/core/v1"
)

// forwarded is a row of the table of clients of the forward proxy.
type forwarded struct {
	name string
	// does is what it did, in the words of the table.
	does string
	// by are the variables that it heeds, of those that the webhook injects.
	by []string
	// instead is what there is for one that does not go through the proxy by variables.
	instead string
	run     func(*passage)
}

// The ways of those that take no proxy.
const (
	noProxyAtAll  = "takes no proxy from variables; asked the reverse proxy, with the token of the volume"
	noPasswordFor = "takes no password for a proxy from variables; asked the reverse proxy, with the token of the volume"
)

// forwardeds is the table.
func forwardeds() []forwarded {
	var (
		ofGo = []string{"HTTPS_PROXY", "SSL_CERT_FILE"}
		node = []string{"NODE_USE_ENV_PROXY", "HTTPS_PROXY", "NODE_EXTRA_CA_CERTS"}
	)
	return []forwarded{
		{name: "curl", does: "GET, HEAD and an upload; in clear too", by: []string{"https_proxy", "http_proxy", "CURL_CA_BUNDLE"}, run: runCurl},
		{name: "wget", does: "GET", by: []string{"https_proxy", "WGETRC"}, run: func(p *passage) { p.gets(p.debian("wget"), "-q", "-O", "-") }},
		{name: "git", does: "clone", by: []string{"HTTPS_PROXY", "GIT_SSL_CAINFO"}, run: runGit},
		{name: "Python `urllib`", does: "GET", by: []string{"HTTPS_PROXY", "SSL_CERT_FILE"}, run: func(p *passage) { p.gets(p.python("urllib.request"), p.program("urllib_get.py")) }},
		{name: "Python `requests`", does: "GET", by: []string{"HTTPS_PROXY", "REQUESTS_CA_BUNDLE"}, run: func(p *passage) { p.gets(p.python("requests"), p.program("requests_get.py")) }},
		{name: "pip", does: "download", by: []string{"HTTPS_PROXY", "PIP_CERT"}, run: runPip},
		{name: "npm", does: "install", by: []string{"HTTPS_PROXY", "NPM_CONFIG_CAFILE"}, run: runNPM},
		{name: "Node `fetch`, 24 and newer", does: "GET", by: node, run: func(p *passage) { p.gets(p.node(true), p.program("get.mjs")) }},
		{name: "Node `fetch`, older", does: "GET", instead: noProxyAtAll, by: []string{"NODE_EXTRA_CA_CERTS"}, run: func(p *passage) { p.getsInstead(p.node(false), p.program("get.mjs")) }},
		{name: "Java", does: "GET", instead: noPasswordFor, by: []string{"JAVA_TOOL_OPTIONS"}, run: func(p *passage) { p.getsInstead(p.java(), p.program("Get.java")) }},
		{name: "Java with an `Authenticator` of its own", does: "GET", by: []string{"HTTPS_PROXY", "JAVA_TOOL_OPTIONS"}, run: func(p *passage) { p.gets(p.java(), p.program("Proxied.java")) }},
		{name: "Go", does: "GET", by: ofGo, run: runGo},
		{name: "crane", does: "push, pull, list, copy", by: ofGo, run: runCrane},
		{name: "skopeo", does: "copy to and from, list", by: ofGo, run: runSkopeo},
		{name: "buildah", does: "build with FROM, push", by: ofGo, run: runBuildah},
		{name: "helm", does: "push, pull", by: ofGo, run: runHelm},
		{name: "oras", does: "push, pull", by: ofGo, run: runOras},
		{name: "regctl", does: "copy to and from", by: ofGo, run: runRegctl},
		{name: "notation", does: "sign, verify", by: ofGo, run: runNotation},
	}
}

// TestForward is every row of the table: the client has what is injected, and nothing else.
func TestForward(t *testing.T) {
	p := newPassage(t)
	for _, f := range forwardeds() {
		t.Run(f.name, func(t *testing.T) {
			one := p.of(t, f.name)
			for _, name := range f.by {
				if !slices.ContainsFunc(one.env, func(v corev1.EnvVar) bool { return v.Name == name }) {
					t.Errorf("the table says `%s`, which is not injected", name)
				}
			}
			f.run(one)
		})
	}
	onlyOurs(t, p.upstream)
}

// The programs. A test is skipped where one is missing.

func (p *passage) debian(name string) string {
	p.Helper()
	return p.Program("", name, "as root, `make test-clients` installs it")
}

// python is one that has a module: Debian's, if it is there, where `make` puts modules.
func (p *passage) python(module string) string {
	p.Helper()
	const ofDebian = "/usr/bin/python3"
	for _, program := range []string{ofDebian, "python3"} {
		if exec.CommandContext(p.Context(), program, "-c", "import "+module).Run() == nil {
			return program
		}
	}
	p.Skipf("SKIPPED: there is no Python with the module '%s'; as root, `make test-clients` installs it", module)
	return ""
}

// node is one of a version whose fetch takes the proxy from the environment, or does not.
func (p *passage) node(takes bool) string {
	p.Helper()
	program := p.Program("", "node", "install Node.js")
	const asks = "const [major, minor] = process.versions.node.split('.').map(Number); process.exit(major >= 24 || major == 22 && minor >= 21 ? 0 : 1)"
	if takes != (exec.CommandContext(p.Context(), program, "-e", asks).Run() == nil) {
		p.Skipf("SKIPPED: '%s' is of another version", program)
	}
	return program
}

// java is one that compiles what it runs.
func (p *passage) java() string {
	p.Helper()
	p.Program("", "javac", "install a JDK, 17 or newer")
	return p.Program("", "java", "install a JDK, 17 or newer")
}

// program is the path of one in testdata.
func (p *passage) program(name string) string {
	p.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	p.OK(err)
	return path
}

func (p *passage) made(name string) string {
	p.Helper()
	return p.Program(envClients, name, byMake)
}

// The clients.

func runCurl(p *passage) {
	curl := p.debian("curl")
	p.gets(curl, "-sS", "--fail")
	p.run(curl, "-sS", "--fail", "--head", "https://"+p.registry+"/v2/")
	digest := "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" // of 'foo'
	began := p.run(curl, "-sS", "--fail", "-X", "POST", "-D", "-", "-o", "/dev/null", "https://"+p.registry+"/v2/"+p.root+"/blobs/uploads/")
	_, location, _ := strings.Cut(strings.ReplaceAll(began, "location:", "Location:"), "Location: ")
	location, _, _ = strings.Cut(location, "\r\n")
	if strings.HasPrefix(location, "/") {
		location = "https://" + p.registry + location
	}
	p.run(curl, "-sS", "--fail", "-X", "PUT", "--data-binary", "foo", "-H", "Content-Type: application/octet-stream", location+"&digest="+digest)
	if got := p.run(curl, "-sS", "--fail", "https://"+p.registry+"/v2/"+p.root+"/blobs/"+digest); got != "foo" {
		p.Errorf("the blob is '%s'", got)
	}
	for _, address := range []string{"http://" + p.plain + "/", "https://" + p.files + "/plain/file"} {
		if got := p.run(curl, "-sS", "--fail", address); got != plainContent {
			p.Errorf("%s: '%s'", address, got)
		}
	}
}

func runGit(p *passage) {
	git := p.debian("git")
	p.run(git, "clone", "-q", "https://"+p.files+"/git/repository.git", "cloned")
	if got := p.run(git, "-C", "cloned", "log", "--format=%s"); got != "first\n" {
		p.Errorf("log: '%s'", got)
	}
}

func runPip(p *passage) {
	p.run(p.python("pip"), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--index-url", "https://"+p.files+"/simple/", "loopback")
	if _, err := os.Stat(p.file(wheelName)); err != nil {
		p.Error(err)
	}
}

func runNPM(p *passage) {
	p.run(p.Program("", "npm", "install Node.js and npm"), "install", "--no-audit", "--no-fund", "--no-update-notifier", "--registry", "https://"+p.files+"/npm/", "loopback")
	if got, err := os.ReadFile(p.file("node_modules/loopback/package.json")); err != nil || string(got) != npmManifest {
		p.Errorf("'%s', %v", got, err)
	}
}

func runGo(p *passage) {
	program := p.file("get")
	build := exec.CommandContext(p.Context(), "go", "build", "-o", program, p.program("get.go"))
	if out, err := build.CombinedOutput(); err != nil {
		p.Fatalf("go build: %v\n%s", err, out)
	}
	p.gets(program)
}

func runCrane(p *passage) {
	crane := p.made("crane")
	dir, digest := p.layout("local")
	p.run(crane, "push", dir, p.through("pushed")+":v1")
	p.has("pushed:v1", digest)
	p.run(crane, "pull", "--format", "oci", p.through("pushed")+":v1", p.file("pulled"))
	p.laidOut(p.file("pulled"), p.pushed(dir))
	p.run(crane, "copy", p.through("pushed")+":v1", p.through("copied")+":v2")
	p.has("copied:v2", digest)
	if got := p.run(crane, "ls", p.through("copied")); got != "v2\n" {
		p.Errorf("tags: '%s'", got)
	}
}

// pushed is the image of a layout.
func (p *passage) pushed(dir string) v1.Image {
	p.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	p.OK(err)
	manifest, err := index.IndexManifest()
	p.OK(err)
	image, err := index.Image(manifest.Manifests[0].Digest)
	p.OK(err)
	return image
}

func runSkopeo(p *passage) {
	skopeo := p.debian("skopeo")
	dir, digest := p.layout("local")
	p.run(skopeo, "--insecure-policy", "copy", "--quiet", "oci:"+dir+":v1", "docker://"+p.through("pushed")+":v1")
	p.has("pushed:v1", digest)
	p.run(skopeo, "--insecure-policy", "copy", "--quiet", "docker://"+p.through("pushed")+":v1", "oci:"+p.file("pulled")+":v1")
	p.laidOut(p.file("pulled"), p.pushed(dir))
	if got := p.run(skopeo, "list-tags", "docker://"+p.through("pushed")); !strings.Contains(got, `"v1"`) {
		p.Errorf("tags: %s", got)
	}
}

func runBuildah(p *passage) {
	buildah := p.debian("buildah")
	if os.Geteuid() != 0 {
		p.Skip("SKIPPED: buildah needs root to unpack layers here")
	}
	dir := p.file("context")
	p.OK(os.MkdirAll(dir, 0o755))
	p.seed("base", "v1")
	p.OK(os.WriteFile(dir+"/Containerfile", []byte("FROM "+p.through("base")+":v1\nCOPY Containerfile /\nLABEL made=here\n"), 0o600))
	p.OK(os.WriteFile(p.file("policy.json"), []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600))
	do := func(verb string, args ...string) {
		p.run(buildah, append([]string{"--root", p.file("storage"), "--runroot", p.file("run"), "--storage-driver", "vfs", verb, "--signature-policy", p.file("policy.json")}, args...)...)
	}
	do("build", "--quiet", "--isolation", "chroot", "--tag", p.through("built")+":v1", dir)
	do("push", "--quiet", "--digestfile", p.file("digest"), p.through("built")+":v1")
	digest, err := os.ReadFile(p.file("digest"))
	p.OK(err)
	p.has("built:v1", strings.TrimSpace(string(digest)))
}

func runHelm(p *passage) {
	helm := p.made("helm")
	p.OK(os.MkdirAll(p.file("chart"), 0o755))
	p.OK(os.WriteFile(p.file("chart/Chart.yaml"), []byte("apiVersion: v2\nname: chart\nversion: 0.1.0\n"), 0o600))
	p.run(helm, "package", "chart")
	packed, err := os.ReadFile(p.file("chart-0.1.0.tgz"))
	p.OK(err)
	p.run(helm, "push", "chart-0.1.0.tgz", "oci://"+strings.TrimSuffix(p.through(""), "/"))
	p.OK(os.Remove(p.file("chart-0.1.0.tgz")))
	p.run(helm, "pull", "oci://"+p.through("chart"), "--version", "0.1.0")
	if got, err := os.ReadFile(p.file("chart-0.1.0.tgz")); err != nil || string(got) != string(packed) {
		p.Errorf("it pulled another chart: %v", err)
	}
}

func runOras(p *passage) {
	oras := p.made("oras")
	p.OK(os.WriteFile(p.file("artifact.txt"), []byte("an artifact"), 0o600))
	p.run(oras, "push", p.through("pushed")+":v1", "artifact.txt:text/plain")
	p.run(oras, "pull", "--output", "pulled", p.through("pushed")+":v1")
	if got, err := os.ReadFile(p.file("pulled/artifact.txt")); err != nil || string(got) != "an artifact" {
		p.Errorf("the artifact came back as '%s': %v", got, err)
	}
}

func runRegctl(p *passage) {
	regctl := p.made("regctl")
	dir, digest := p.layout("local")
	p.run(regctl, "image", "copy", "ocidir://"+dir+":v1", p.through("pushed")+":v1")
	p.has("pushed:v1", digest)
	p.run(regctl, "image", "copy", p.through("pushed")+":v1", "ocidir://"+p.file("pulled")+":v1")
	p.laidOut(p.file("pulled"), p.pushed(dir))
}

// runNotation signs an image, and verifies the signature, which is in the registry.
func runNotation(p *passage) {
	notation := p.made("notation")
	p.run(notation, "cert", "generate-test", "--default", "signer")
	p.OK(os.WriteFile(p.file("policy.json"), []byte(`{"version":"1.0","trustPolicies":[{"name":"signed","registryScopes":["*"],
		"signatureVerification":{"level":"strict"},"trustStores":["ca:signer"],"trustedIdentities":["*"]}]}`), 0o600))
	p.run(notation, "policy", "import", p.file("policy.json"))
	image := p.through("signed") + "@" + digestOf(&p.scene, p.seed("signed", "v1"))
	p.run(notation, "sign", image)
	if got := p.run(notation, "verify", image); !strings.Contains(got, "Successfully verified signature for "+image) {
		p.Errorf("it says: %s", got)
	}
}
