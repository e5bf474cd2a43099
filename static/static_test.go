package static_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/access"
	"berth.dev/berth/manifest"
	"berth.dev/berth/route"
	"berth.dev/berth/secret"
	"berth.dev/berth/static"
	"berth.dev/berth/token"
)

const (
	connector = `apiVersion: connectors.berth.dev/v1alpha1
kind: Connector
metadata: {name: harbor, namespace: shop}
spec:
  connectorClassName: harbor
  address: https://harbor.example.com
  auth: {name: basicAuth, secretRef: {name: login}}
`
	login = `apiVersion: v1
kind: Secret
metadata: {name: login, namespace: shop}
type: kubernetes.io/basic-auth
stringData: {username: robot, password: hunter2}
`
	class = `{"apiVersion": "connectors.berth.dev/v1alpha1", "kind": "ConnectorClass", "metadata": {"name": "harbor"},
"spec": {"probes": {"liveness": {"path": "/"}, "auth": {"path": "/"}}}}
`
	namespace = `apiVersion: v1
kind: Namespace
metadata: {name: shop, uid: u1, labels: {team: a}}
`
)

// keys is the ConfigMap of the token keys.
func keys(t testing.TB) string {
	t.Helper()
	made, _, _, err := token.Keys{}.Step(time.Unix(1, 0), token.Rotation{Every: time.Hour, Keep: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(made.Public())
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]string{"name": "berth-token-keys", "namespace": "berth-system"},
		"data": map[string]string{"jwks.json": string(jwks)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func harbor() route.Connector { return route.Connector{Namespace: "shop", Name: "harbor"} }

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "shop", Name: name}
}

func TestRead(t *testing.T) {
	t.Parallel()
	s, err := static.Reader{}.Read(static.Files{
		"a.yaml": []byte(connector + "---\n" + login + "---\n# nothing\n---\n" + namespace),
		"b.json": []byte(class),
		"c.yaml": []byte(keys(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	c, ok := s.Connectors[harbor()]
	if !ok || c.Registry != "harbor.example.com" || c.UID == "" || s.Classes["harbor"] == nil || s.Keys == nil {
		t.Errorf("Connector %v, class %v, keys %v", c, s.Classes["harbor"], s.Keys)
	}
	found, err := s.Get(t.Context(), named("login"))
	if err != nil || string(found.Data["password"]) != "hunter2" || found.StringData != nil {
		t.Errorf("Secret: %v", err)
	}
	var problem *secret.Problem
	if _, err := s.Get(t.Context(), named("none")); !errors.As(err, &problem) {
		t.Errorf("a Secret that is not there: %v", err)
	}
	type answer struct {
		UID    string
		Labels map[string]string
	}
	for name, want := range map[string]answer{
		"shop":  {"u1", map[string]string{"team": "a", "kubernetes.io/metadata.name": "shop"}},
		"other": {"other", map[string]string{"kubernetes.io/metadata.name": "other"}},
	} {
		uid, labels := s.Namespace(name)
		if diff := cmp.Diff(want, answer{uid, labels}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	replaced := func(text, old, with string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%q does not hold %q", text, old)
		}
		return strings.Replace(text, old, with, 1)
	}
	for name, test := range map[string]struct {
		manifest string
		line     int
		says     string
	}{
		"another kind":           {replaced(connector, "kind: Connector", "kind: Conector"), 2, "`kind` 'Conector'"},
		"unknown field":          {connector + "  acces: []\n", 8, `unknown field "spec.acces"`},
		"unknown field in list":  {connector + "  access:\n  - actions: [pull]\n  - actoins: [pull]\n", 10, `unknown field "spec.access[1].actoins"`},
		"wrong type":             {replaced(connector, "https://harbor.example.com", "[a]"), 6, "`spec.address`"},
		"twice":                  {connector + "---\n" + connector, 11, "described twice"},
		"Secret twice":           {login + "---\n" + login, 9, "described twice"},
		"class twice":            {class + class, 3, "described twice"},
		"Namespace twice":        {namespace + "---\n" + namespace, 7, "described twice"},
		"key twice":              {connector + "  address: https://other.example.com\n", 8, "stands twice"},
		"no namespace":           {replaced(connector, ", namespace: shop", ""), 3, "`metadata.namespace`"},
		"name too long":          {replaced(connector, "harbor,", strings.Repeat("a", 62)+","), 3, "DNS-1035"},
		"no class":               {replaced(connector, "connectorClassName: harbor", "connectorClassName: ''"), 5, "`spec.connectorClassName`"},
		"upper case":             {replaced(connector, "harbor.example", "Harbor.example"), 6, "the host in lower case"},
		"user in address":        {replaced(connector, "//harbor", "//robot:hunter2@harbor"), 6, "scheme://host"},
		"no scheme":              {replaced(connector, "https://", ""), 6, "scheme://host"},
		"loopback":               {replaced(connector, "harbor.example.com", "127.0.0.1:5000"), 6, "may not be loopback"},
		"localhost":              {replaced(connector, "harbor.example.com", "localhost"), 6, "may not be loopback"},
		"metadata service":       {replaced(connector, "https://harbor.example.com", "http://169.254.169.254"), 6, "link-local"},
		"loopback extension":     {connector + "  addressExtensions: [{name: a, value: 'https://[::1]'}]\n", 8, "link-local"},
		"bad extension":          {connector + "  addressExtensions:\n  - {name: a, value: 'https://auth.example.com'}\n  - {name: b, value: 'https://auth.example.com/x'}\n", 10, "nothing after it"},
		"action":                 {connector + "  access: [{actions: [pul]}]\n", 8, "'pul'"},
		"pattern":                {connector + "  access: [{repositories: ['Team/*']}]\n", 8, "'Team/*'"},
		"selector without from":  {connector + "  access: [{namespaces: {selector: {matchLabels: {a: b}}}}]\n", 8, "`selector`"},
		"not base64":             {replaced(login, "stringData: {", "data: {a: '!', "), 0, ""},
		"Secret without a name":  {replaced(login, "name: login", "name: ''"), 3, "`metadata.name`"},
		"Secret nowhere":         {replaced(login, ", namespace: shop", ""), 3, "`metadata.namespace`"},
		"another ConfigMap":      {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n", 3, "the one ConfigMap"},
		"no keys":                {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: berth-token-keys, namespace: berth-system}\ndata:\n  jwks.json: x\n", 5, "JWK"},
		"not YAML":               {connector + "\t- a", 8, ""},
		"no object":              {"hunter2\n", 1, "must be an object"},
		"a list":                 {"[hunter2]\n", 1, "must be an object"},
		"alias in a Secret":      {replaced(login, "password: hunter2", "password: *hunter2"), 1, "unknown anchor"},
		"tag in a Secret":        {replaced(login, "password: hunter2", "password: !!int hunter2"), 0, ""},
		"Secret of another type": {replaced(login, "{username: robot, password: hunter2}", "[hunter2]"), 5, "stringData"},
		"bare in a Secret":       {replaced(login, "password: hunter2", "password: {hunter2: hunter2}"), 5, "stringData"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := static.Reader{}.Read(static.Files{"a.yaml": []byte(test.manifest), "keys.yaml": []byte(keys(t))})
			var input *manifest.InputError
			if !errors.As(err, &input) || input.File != "a.yaml" || input.Document == 0 {
				t.Fatalf("%v, want an InputError about a document of a.yaml", err)
			}
			if test.line > 0 && input.Line != test.line || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want line %d and '%s'", err, test.line, test.says)
			}
			if strings.Contains(err.Error(), "hunter2") && name != "user in address" {
				t.Errorf("it tells the password: %v", err)
			}
		})
	}
}

func TestReadNeedsKeys(t *testing.T) {
	t.Parallel()
	if _, err := (static.Reader{}).Read(static.Files{"a.yaml": []byte(connector)}); err == nil || !strings.Contains(err.Error(), "berth-token-keys") {
		t.Errorf("%v", err)
	}
}

func TestAllowedAddresses(t *testing.T) {
	t.Parallel()
	r := static.Reader{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for address, ok := range map[string]bool{
		"http://127.0.0.1:5000": true, "http://localhost:5000": true, "https://harbor.example.com": true,
		"http://[::1]": false, "http://169.254.169.254": false,
	} {
		text := strings.Replace(connector, "https://harbor.example.com", "'"+address+"'", 1)
		_, err := r.Read(static.Files{"a.yaml": []byte(text), "k.yaml": []byte(keys(t))})
		if (err == nil) != ok || !ok && !errors.Is(err, access.ErrLocal) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// another address is another Connector: what was cached for the one is nothing to the other.
func TestUIDs(t *testing.T) {
	t.Parallel()
	uid := func(text string) types.UID {
		s, err := static.Reader{}.Read(static.Files{"a.yaml": []byte(text), "k.yaml": []byte(keys(t))})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Connectors {
			return c.UID
		}
		return ""
	}
	first := uid(connector)
	if again := uid(connector + "  access: [{actions: [push]}]\n"); again != first {
		t.Errorf("another rule: UID %s, want %s", again, first)
	}
	for name, text := range map[string]string{
		"address": strings.Replace(connector, "harbor.example", "other.example", 1),
		"name":    strings.Replace(connector, "name: harbor", "name: other", 1),
		"UID":     strings.Replace(connector, "namespace: shop", "namespace: shop, uid: other", 1),
	} {
		if uid(text) == first {
			t.Errorf("another %s: the same UID", name)
		}
	}
}

// The words about addresses are the CRD's.
func TestSameWordsAsTheCRD(t *testing.T) {
	t.Parallel()
	crd, err := os.ReadFile(filepath.Join("..", "manifests", "crds", "connectors.berth.dev_connectors.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`\s+`).ReplaceAllString(strings.ReplaceAll(string(crd), "''", "'"), " ")
	for _, line := range []string{
		strings.Replace(connector, "https://", "", 1),
		strings.Replace(connector, "harbor.example.com", "localhost", 1),
		connector + "  addressExtensions: [{name: a, value: x}]\n",
		connector + "  addressExtensions: [{name: a, value: 'http://localhost'}]\n",
	} {
		_, err := static.Reader{}.Read(static.Files{"a.yaml": []byte(line), "k.yaml": []byte(keys(t))})
		if err == nil {
			t.Fatalf("it is read:\n%s", line)
		}
		said := regexp.MustCompile("`(address|value)` .*").FindString(err.Error())
		if said == "" || !strings.Contains(words, said) {
			t.Errorf("the CRD does not say: %v", err)
		}
	}
}

// open opens a directory and follows it until the test ends.
func open(t *testing.T, path string, gone func(*access.Connector)) *static.Directory {
	t.Helper()
	d, err := static.Open(path, static.Reader{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := d.Start(ctx, gone); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { stop(); <-ended })
	return d
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	end := time.After(30 * time.Second)
	for !is() {
		select {
		case <-time.After(time.Millisecond):
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

func put(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryFollows(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	file, other := filepath.Join(path, "a.yaml"), filepath.Join(path, "b.yaml")
	put(t, filepath.Join(path, "keys.yml"), keys(t))
	put(t, filepath.Join(path, "notes.txt"), "not a manifest")
	put(t, filepath.Join(path, ".a.yaml.swp.yaml"), "kind: [")
	put(t, file, connector)
	put(t, other, login)
	gone := make(chan types.UID, 10)
	d := open(t, path, func(c *access.Connector) { gone <- c.UID })
	version := func() string {
		s, err := d.Get(t.Context(), named("login"))
		if err != nil {
			return ""
		}
		return s.ResourceVersion
	}
	first, ok := d.Catalogue().Get(harbor())
	if !ok {
		t.Fatal("the Connector is not there")
	}
	before, state := version(), d.State()

	put(t, file, connector+"# a remark\n")
	await(t, "another state", func() bool { return d.State() != state })
	if version() != before {
		t.Error("a Secret that did not change has another version")
	}

	put(t, other+"~", strings.Replace(login, "hunter2", "hunter3", 1))
	if err := os.Rename(other+"~", other); err != nil {
		t.Fatal(err)
	}
	await(t, "another version", func() bool { return version() != before && version() != "" })

	put(t, file, strings.Replace(connector, "harbor.example", "other.example", 1))
	if uid := <-gone; uid != first.UID {
		t.Errorf("gone is %s, want %s", uid, first.UID)
	}
	await(t, "the other address", func() bool {
		c, ok := d.Catalogue().Get(harbor())
		return ok && c.Registry == "other.example.com"
	})

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	await(t, "no Connector", func() bool { _, ok := d.Catalogue().Get(harbor()); return !ok })
	<-gone
}

// As kubelet changes a mounted ConfigMap.
func TestDirectoryFollowsLinks(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	for version, text := range map[string]string{"..1": connector, "..2": strings.Replace(connector, "harbor.example", "other.example", 1)} {
		if err := os.Mkdir(filepath.Join(path, version), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(path, version, "all.yaml"), text+"---\n"+keys(t))
	}
	turn := func(to string) {
		if err := errors.Join(os.Symlink(to, filepath.Join(path, "..tmp")), os.Rename(filepath.Join(path, "..tmp"), filepath.Join(path, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	turn("..1")
	if err := os.Symlink(filepath.Join("..data", "all.yaml"), filepath.Join(path, "all.yaml")); err != nil {
		t.Fatal(err)
	}
	d := open(t, path, func(*access.Connector) {})
	turn("..2")
	await(t, "the other address", func() bool {
		c, ok := d.Catalogue().Get(harbor())
		return ok && c.Registry == "other.example.com"
	})
}

func FuzzRead(f *testing.F) {
	ring := keys(f)
	f.Add(connector)
	f.Add(login + "---\n" + namespace)
	f.Add(class)
	f.Add("a: &a [*a]")
	f.Add("--- {}\n---\n...\n{\"kind\": 1}")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := static.Reader{}.Read(static.Files{"a.yaml": []byte(text), "k.yaml": []byte(ring)})
		if err == nil && s.Keys == nil {
			t.Error("neither a state nor an error")
		}
		var input *manifest.InputError
		if err != nil && !errors.As(err, &input) {
			t.Errorf("it does not say where: %v", err)
		}
	})
}
