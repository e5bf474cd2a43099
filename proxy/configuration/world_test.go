package configuration_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"k8s.io/apimachinery/pkg/util/yaml"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
	"berth.dev/berth/proxy/configuration"
	"berth.dev/berth/proxy/identity"
)

const secretToken = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0LXRva2Vu.c2ln"

// world is the endpoint with what it knows of a cluster.
type world struct {
	http.Handler
	classes      configuration.Classes
	catalogue    access.Catalogue
	caller       identity.Identity
	err          error // of who asks
	authorities  []byte
	interception configuration.Interception
	token        string
	have         string // of the node
	log          bytes.Buffer
}

// Authenticate implements configuration.Authenticator.
func (w *world) Authenticate(*http.Request) (identity.Identity, error) { return w.caller, w.err }

func newWorld(t testing.TB, changes ...func(*configuration.Options)) *world {
	t.Helper()
	w := &world{caller: identity.Identity{Caller: access.Caller{Namespace: "demo", Labels: map[string]string{"team": "a"}}}, authorities: authority(t), token: secretToken}
	for _, c := range shipped(t) {
		if err := w.classes.Put(c); err != nil {
			t.Fatal(err)
		}
	}
	w.connector(t, "demo", "harbor", "harbor", "https://harbor.example.com")
	o := configuration.Options{
		Catalogue: &w.catalogue, Classes: &w.classes, Identity: w, Authorities: func() []byte { return w.authorities }, Interception: &w.interception,
		Trusted: []string{"berth-system"}, ClusterDomain: "cluster.local",
		Log: slog.New(slog.NewJSONHandler(&w.log, nil)),
	}
	for _, change := range changes {
		change(&o)
	}
	h, err := configuration.New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Handler = h
	return w
}

// authority is a certificate authority that is the same in each run.
func authority(t testing.TB) []byte {
	t.Helper()
	content, err := os.ReadFile("testdata/authority.pem")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certs.ParseCertificates(content); err != nil {
		t.Fatal(err)
	}
	return content
}

// shipped are the classes that come with Berth.
func shipped(t testing.TB) (classes []*v1alpha1.ConnectorClass) {
	t.Helper()
	content, err := os.ReadFile("../../manifests/base/classes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		var c v1alpha1.ConnectorClass
		err := decoder.Decode(&c)
		if errors.Is(err, io.EOF) {
			return classes
		}
		if err != nil {
			t.Fatal(err)
		}
		classes = append(classes, &c)
	}
}

// class puts a class with one configuration, 'conf', of one file, 'out'.
func (w *world) class(t testing.TB, name, template string) error {
	t.Helper()
	c := &v1alpha1.ConnectorClass{Spec: v1alpha1.ConnectorClassSpec{Configurations: []v1alpha1.ClassConfiguration{
		{Name: "conf", Files: []v1alpha1.ClassFile{{Name: "out", Template: template}}},
	}}}
	c.Name = name
	return w.classes.Put(c)
}

func (w *world) connector(t testing.TB, namespace, name, class, address string, rules ...v1alpha1.AccessRule) {
	t.Helper()
	c := &v1alpha1.Connector{Spec: v1alpha1.ConnectorSpec{ConnectorClassName: class, Address: address, Access: rules}}
	c.Namespace, c.Name = namespace, name
	compiled, err := access.New(c)
	if err != nil {
		t.Fatal(err)
	}
	w.catalogue.Put(compiled)
}

// answer is what the endpoint said.
type answer struct {
	status     int
	header     http.Header
	files      map[string][]byte
	generation string
	same       map[string]string
	message    string
}

// get asks for a volume, with attributes as name, value, name, value.
func (w *world) get(t testing.TB, tag string, attributes ...string) answer {
	t.Helper()
	query := url.Values{}
	for i := 0; i+1 < len(attributes); i += 2 {
		query.Add(attributes[i], attributes[i+1])
	}
	r := httptest.NewRequest(http.MethodGet, v1alpha1.FilesPath+"?"+query.Encode(), nil)
	r.Header.Set("Authorization", "Bearer "+w.token)
	r.Header.Set(v1alpha1.FilesHave, w.have)
	if tag != "" {
		r.Header.Set("If-None-Match", tag)
	}
	recorder := httptest.NewRecorder()
	w.ServeHTTP(recorder, r)
	a := answer{status: recorder.Code, header: recorder.Header()}
	var body struct {
		v1alpha1.Files
		v1alpha1.FilesError
	}
	if recorder.Body.Len() > 0 {
		if err := cbor.Unmarshal(recorder.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
	}
	a.same = body.Same
	a.files, a.generation, a.message = body.Files.Files, body.Generation, body.Message
	return a
}

func (w *world) method(method string) int {
	recorder := httptest.NewRecorder()
	w.ServeHTTP(recorder, httptest.NewRequest(method, v1alpha1.FilesPath, nil))
	return recorder.Code
}
