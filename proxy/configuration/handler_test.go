package configuration_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"software.sslmate.com/src/go-pkcs12"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
	"berth.dev/berth/proxy/configuration"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/route"
)

var update = flag.Bool("update", false, "write the goldens as they are now") //nolint:gochecknoglobals // flags are

// everyone lets any namespace use a Connector.
func everyone() v1alpha1.AccessRule {
	return v1alpha1.AccessRule{Namespaces: v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromAll}}
}

// TestShipped renders every configuration that comes with Berth, for one Connector and for more.
func TestShipped(t *testing.T) {
	t.Parallel()
	forward := func(o *configuration.Options) {
		o.ForwardAddress, o.APIServer, o.NoProxy = "berth-proxy.berth-system.svc:3128", "10.96.0.1", []string{"10.96.0.0/12"}
	}
	const all = "registry-config,buildkitd,containers,helm,npm,pip"
	for name, tc := range map[string]struct {
		attributes []string
		options    []func(*configuration.Options)
	}{
		"one":     {attributes: []string{"connectors", "demo/harbor", "configurations", all}},
		"several": {attributes: []string{"connectors", "harbor,shared/hub, shared/again,other/art", "configurations", all, "mountPath", "/etc/berth"}},
		"proxy":   {attributes: []string{"connectors", "demo/harbor,shared/hub", "configurations", all}, options: []func(*configuration.Options){forward}},
		"none":    {attributes: nil},
		"unnamed": {attributes: []string{"configurations", "registry-config"}, options: []func(*configuration.Options){forward}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tc.options...)
			w.connector(t, "shared", "hub", "oci", "https://registry-1.docker.io", everyone())
			w.connector(t, "shared", "again", "oci", "https://harbor.example.com", everyone())
			w.connector(t, "other", "art", "oci", "https://art.example.com:8443/artifactory/api/docker", everyone())
			w.connector(t, "berth-system", "central", "harbor", "https://central.example.com", everyone())
			w.connector(t, "berth-system", "closed", "harbor", "https://closed.example.com")
			got := w.get(t, "", tc.attributes...)
			if got.status != http.StatusOK {
				t.Fatalf("status %d: %s", got.status, got.message)
			}
			golden(t, name, got.files)
			trusted(t, w.authorities, got.files)
			var config any
			if raw, ok := got.files["config.json"]; ok && json.Unmarshal(raw, &config) != nil {
				t.Errorf("config.json is no JSON: %s", raw)
			}
		})
	}
}

// golden compares the files that are text with those in testdata.
func golden(t *testing.T, name string, files map[string][]byte) {
	t.Helper()
	var b strings.Builder
	for _, file := range slices.Sorted(mapsKeys(files)) {
		content := string(files[file])
		if file == v1alpha1.FileBundle || file == v1alpha1.FileTrustStore || file == v1alpha1.FileCA || file == v1alpha1.FileCAOfProxy {
			content = "(certificates)\n"
		}
		fmt.Fprintf(&b, "-- %s --\n%s", file, content)
		if !strings.HasSuffix(content, "\n") {
			b.WriteString("\n")
		}
	}
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it by: go test ./proxy/configuration -update", err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("the files (-want +got):\n%s", diff)
	}
}

func mapsKeys(files map[string][]byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range files {
			if !yield(name) {
				return
			}
		}
	}
}

// trusted is the law of every volume: the Connectors' authorities alone in one file, with the public ones in two.
func trusted(t *testing.T, authorities []byte, files map[string][]byte) {
	t.Helper()
	for _, name := range []string{v1alpha1.FileCA, v1alpha1.FileCAOfProxy} {
		if !bytes.Equal(files[name], authorities) {
			t.Errorf("%s is not the authority's:\n%s", name, files[name])
		}
	}
	own, err := certs.ParseCertificates(authorities)
	if err != nil {
		t.Fatal(err)
	}
	inBundle, err := certs.ParseCertificates(files[v1alpha1.FileBundle])
	if err != nil {
		t.Fatal(err)
	}
	inStore, err := pkcs12.DecodeTrustStore(files[v1alpha1.FileTrustStore], "")
	if err != nil {
		t.Fatal(err)
	}
	for name, have := range map[string][]*x509.Certificate{v1alpha1.FileBundle: inBundle, v1alpha1.FileTrustStore: inStore} {
		if len(have) < 100 || !slices.ContainsFunc(have, own[0].Equal) {
			t.Errorf("%s has %d certificates, and the Connectors' must be among them", name, len(have))
		}
	}
}

// TestInterception: a volume trusts the forward proxy for the hosts of its own Connectors, and of no others.
func TestInterception(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		attributes []string
		trusted    []string
	}{
		"named":   {[]string{"connectors", "shared/hub"}, []string{"shared/hub"}},
		"unnamed": {nil, []string{"berth-system/central", "demo/harbor"}},
		"none":    {[]string{"connectors", "demo/plain"}, nil},
		"in the order of the volume": {
			[]string{"connectors", "shared/hub,demo/harbor", "configurations", "registry-config"}, []string{"shared/hub", "demo/harbor"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.connector(t, "demo", "plain", "oci", "http://plain.example.com")
			w.connector(t, "demo", "bad", "oci", "https://bad.example.com")
			w.connector(t, "shared", "hub", "oci", "https://hub.example.com", everyone())
			w.connector(t, "berth-system", "central", "harbor", "https://central.example.com", everyone())
			bundles := map[string]string{}
			for _, c := range []string{"demo/harbor", "shared/hub", "berth-system/central", "demo/gone"} {
				bundles[c] = newAuthority(t)
				if err := w.interception.Put(connectorNamed(t, c), bundles[c]); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.interception.Put(connectorNamed(t, "demo/bad"), "-----BEGIN CERTIFICATE-----\nx"); err == nil || !strings.Contains(err.Error(), "'demo/bad'") {
				t.Errorf("of what is no certificate: %v", err)
			}
			w.interception.Delete(connectorNamed(t, "demo/gone"))
			got := w.get(t, "", tc.attributes...)
			if got.status != http.StatusOK {
				t.Fatalf("status %d: %s", got.status, got.message)
			}
			want := string(w.authorities)
			for _, c := range tc.trusted {
				want += bundles[c]
			}
			trusted(t, []byte(want), got.files)
		})
	}
}

func connectorNamed(t *testing.T, text string) route.Connector {
	t.Helper()
	name, err := route.ParseName(text, "")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// newAuthority is the certificate of a new authority, in PEM.
func newAuthority(t *testing.T) string {
	t.Helper()
	a, err := certs.NewAuthority("test", certs.Scope{Domains: []string{"harbor.example.com"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return string(certs.Authorities{a}.Bundle())
}

// TestContentsThatTheNodeHas: the great files are not sent again to a node that has them, and all others are.
func TestContentsThatTheNodeHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.get(t, "").files
	bundle, store := v1alpha1.FilesDigest(all[v1alpha1.FileBundle]), v1alpha1.FilesDigest(all[v1alpha1.FileTrustStore])
	token := v1alpha1.FilesDigest(all[v1alpha1.FileToken])
	for name, tc := range map[string]struct {
		have string
		same map[string]string
	}{
		"nothing":        {"", map[string]string{}},
		"something else": {"x,," + strings.Repeat("0", 64), map[string]string{}},
		"one":            {"x," + store, map[string]string{v1alpha1.FileTrustStore: store}},
		"both":           {bundle + "," + store, map[string]string{v1alpha1.FileBundle: bundle, v1alpha1.FileTrustStore: store}},
		"a small one":    {token, map[string]string{}},
	} {
		w.have = tc.have
		got := w.get(t, "")
		if diff := cmp.Diff(tc.same, got.same, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: what is not sent (-want +got):\n%s", name, diff)
		}
		want := maps.Clone(all)
		for left := range tc.same {
			delete(want, left)
		}
		if diff := cmp.Diff(want, got.files); diff != "" {
			t.Errorf("%s: what is sent (-want +got):\n%s", name, diff)
		}
	}
}

// TestShippedAlike: the classes that come with Berth can share a volume.
func TestShippedAlike(t *testing.T) {
	t.Parallel()
	classes := shipped(t)
	for _, c := range classes[1:] {
		if diff := cmp.Diff(classes[0].Spec.Configurations, c.Spec.Configurations); diff != "" {
			t.Errorf("classes '%s' and '%s' differ:\n%s", classes[0].Name, c.Name, diff)
		}
	}
}

// TestRefusals: who gets no files is told why, and what to do.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		attributes []string
		change     func(*testing.T, *world)
		status     int
		says       string
	}{
		"no token":              {nil, func(_ *testing.T, w *world) { w.err = identity.ErrNoCredentials }, 401, "carries no ServiceAccount token"},
		"bad token":             {nil, func(_ *testing.T, w *world) { w.err = identity.ErrToken }, 401, "the Pod's token is not accepted"},
		"API server away":       {nil, func(_ *testing.T, w *world) { w.err = identity.ErrUnavailable }, 503, "the API server does not answer"},
		"unknown attribute":     {[]string{"connector", "demo/harbor"}, nil, 400, "attribute 'connector' is not known; use `connectors`"},
		"twice":                 {[]string{"connectors", "a", "connectors", "b"}, nil, 400, "must stand once"},
		"too long":              {[]string{"connectors", strings.Repeat("a,", 10000)}, nil, 400, "at most 16384 bytes"},
		"no name":               {[]string{"connectors", "demo/../harbor"}, nil, 400, "'demo/../harbor' must be 'NAMESPACE/NAME'"},
		"hostile name":          {[]string{"connectors", "\xff" + strings.Repeat("x", 5000)}, nil, 400, "must be 'NAMESPACE/NAME'"},
		"too many":              {[]string{"connectors", manyNames(65)}, nil, 400, "64 Connectors"},
		"mount path":            {[]string{"mountPath", "/run/../etc"}, nil, 400, "`mountPath` must be an absolute path"},
		"mount path, quotes":    {[]string{"mountPath", "/run/\"x"}, nil, 400, "`mountPath` must be an absolute path"},
		"unknown Connector":     {[]string{"connectors", "demo/harbour"}, nil, 404, "there is no Connector 'harbour' in namespace 'demo'"},
		"no access":             {[]string{"connectors", "demo/harbor"}, func(_ *testing.T, w *world) { w.caller.Namespace = "elsewhere" }, 403, "does not list namespace 'elsewhere' in `spec.access`; ask its owner"},
		"unknown configuration": {[]string{"connectors", "harbor", "configurations", "buildkit"}, nil, 404, "there are 'buildkitd', 'containers', 'helm', 'npm', 'pip', 'registry-config'"},
		"nothing to configure":  {[]string{"configurations", "buildkitd"}, func(_ *testing.T, w *world) { w.caller.Namespace = "elsewhere" }, 404, "name one in the volume's attribute `connectors`"},
		"class is gone":         {[]string{"connectors", "harbor", "configurations", "buildkitd"}, func(_ *testing.T, w *world) { w.classes.Delete("harbor") }, 422, "ConnectorClass 'harbor', which does not exist"},
		"classes differ": {[]string{"connectors", "harbor,other", "configurations", "conf"}, func(t *testing.T, w *world) {
			w.connector(t, "demo", "other", "oci", "https://other.example.com")
			_ = w.class(t, "harbor", "a")
			_ = w.class(t, "oci", "b")
		}, 422, "ConnectorClasses 'harbor' and 'oci' write configuration 'conf' differently"},
		"one file twice": {[]string{"connectors", "harbor", "configurations", "a,b"}, func(_ *testing.T, w *world) {
			c := &v1alpha1.ConnectorClass{Spec: v1alpha1.ConnectorClassSpec{Configurations: []v1alpha1.ClassConfiguration{
				{Name: "a", Files: []v1alpha1.ClassFile{{Name: "x"}}}, {Name: "b", Files: []v1alpha1.ClassFile{{Name: "x"}}},
			}}}
			c.Name = "harbor"
			_ = w.classes.Put(c)
		}, 422, "configurations 'a' and 'b' both write the file 'x'"},
		"template does not parse": {[]string{"connectors", "harbor", "configurations", "conf"}, func(t *testing.T, w *world) {
			if err := w.class(t, "harbor", "x\n{{if}}"); err == nil || !strings.Contains(err.Error(), "file 'out', line 2") {
				t.Errorf("Put says: %v", err)
			}
		}, 422, "ConnectorClass 'harbor', configuration 'conf', file 'out', line 2: missing value for if; the administrator must correct the template"},
		"template fails": {[]string{"connectors", "harbor", "configurations", "conf"}, func(t *testing.T, w *world) {
			_ = w.class(t, "harbor", "x\n\n{{.Connector}}")
		}, 422, "file 'out', line 3: at <.Connector>: can't evaluate field Connector"},
		"template goes on": {[]string{"connectors", "harbor", "configurations", "conf"}, func(t *testing.T, w *world) {
			_ = w.class(t, "harbor", "x\n{{range 2000000000}}{{end}}")
		}, 422, "ConnectorClass 'harbor', configuration 'conf', file 'out', line 2: it goes on and on; range over `.Connectors` alone; the administrator must"},
		"template grows": {[]string{"connectors", "harbor", "configurations", "conf"}, func(t *testing.T, w *world) {
			_ = w.class(t, "harbor", "{{range 2000000000}}{{$.CACert}}{{end}}")
		}, 422, "it makes more than a file may have; see to it that it ends; the administrator must"},
		"files grow together": {[]string{"connectors", "harbor", "configurations", "a,b,c"}, func(_ *testing.T, w *world) {
			c := &v1alpha1.ConnectorClass{}
			c.Name = "harbor"
			for _, name := range []string{"a", "b", "c"} {
				c.Spec.Configurations = append(c.Spec.Configurations, v1alpha1.ClassConfiguration{Name: name, Files: []v1alpha1.ClassFile{
					{Name: name, Template: strings.Repeat("{{range 160}}{{$.BundleFile}}"+strings.Repeat("x", 1000)+"{{end}}", 5)},
				}})
			}
			_ = w.classes.Put(c)
		}, 422, "the files of configurations 'a', 'b', 'c' are more than 2097152 bytes together; mount them in two volumes"},
		"authority missing": {nil, func(_ *testing.T, w *world) { w.authorities = nil }, 503, "certificate authority is not there yet"},
		"authority broken":  {nil, func(_ *testing.T, w *world) { w.authorities = []byte("x") }, 500, "the proxy's log says why"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tc.change != nil {
				tc.change(t, w)
			}
			got := w.get(t, "", tc.attributes...)
			if got.status != tc.status || !strings.Contains(got.message, tc.says) || got.files != nil || got.header.Get("Etag") != "" {
				t.Errorf("status %d, files %v: %s\nwant %d and: %s", got.status, got.files, got.message, tc.status, tc.says)
			}
			if len(got.message) > 1024 || strings.Contains(got.message+w.log.String(), secretToken) {
				t.Errorf("too long, or with the token: %s", got.message)
			}
			if w.log.Len() == 0 {
				t.Error("nothing is logged")
			}
		})
	}
}

func manyNames(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("c%d", i)
	}
	return strings.Join(names, ",")
}

// TestMethod: GET alone.
func TestMethod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if status := w.method(http.MethodPost); status != http.StatusMethodNotAllowed {
		t.Errorf("POST is answered by %d", status)
	}
}

// TestGeneration: as long as nothing changes, nothing is sent, by any replica; whatever changes, it is.
func TestGeneration(t *testing.T) {
	t.Parallel()
	attributes := []string{"connectors", "demo/harbor", "configurations", "conf"}
	ready := func(t *testing.T) *world {
		w := newWorld(t)
		_ = w.class(t, "harbor", "{{.Token}}")
		return w
	}
	w := ready(t)
	first := w.get(t, "", attributes...)
	tag := first.header.Get("Etag")
	if tag != `"`+first.generation+`"` || first.generation == "" {
		t.Fatalf("Etag %s of generation '%s'", tag, first.generation)
	}
	for name, replica := range map[string]*world{"this replica": w, "another": ready(t)} {
		if got := replica.get(t, tag, attributes...); got.status != http.StatusNotModified || got.files != nil {
			t.Errorf("%s: status %d, want 304", name, got.status)
		}
	}
	for name, change := range map[string]func(*testing.T, *world){
		"template": func(t *testing.T, w *world) { _ = w.class(t, "harbor", "{{.Token}} ") },
		"address": func(t *testing.T, w *world) {
			w.connector(t, "demo", "harbor", "harbor", "https://harbor2.example.com")
		},
		"token":     func(_ *testing.T, w *world) { w.token += "x" },
		"authority": func(_ *testing.T, w *world) { w.authorities = append(bytes.Clone(w.authorities), w.authorities...) },
		"interception": func(t *testing.T, w *world) {
			if err := w.interception.Put(route.Connector{Namespace: "demo", Name: "harbor"}, newAuthority(t)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		w := ready(t)
		change(t, w)
		if got := w.get(t, tag, attributes...); got.status != http.StatusOK || got.generation == first.generation {
			t.Errorf("%s changed: status %d, generation '%s'", name, got.status, got.generation)
		}
	}
	if got := w.get(t, tag, append(attributes, "mountPath", "/elsewhere")...); got.status != http.StatusOK || got.generation == first.generation {
		t.Errorf("elsewhere: status %d, generation '%s'", got.status, got.generation)
	}
	_ = w.class(t, "harbor", "{{.Nothing}}")
	if got := w.get(t, tag, attributes...); got.status != http.StatusUnprocessableEntity {
		t.Errorf("status %d, want 422: a template that broke", got.status)
	}
}
