package static

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/manifest"
	"berth.dev/berth/route"
	"berth.dev/berth/token"
)

// Files are manifests by the name of their file.
type Files map[string][]byte

// Reader reads manifests. The zero value is ready.
type Reader struct {
	// Allowed are addresses that a Connector may name although they are loopback or link-local.
	Allowed []netip.Prefix
}

// Read returns what the files say together. It is pure. Each error is a
// *manifest.InputError, but for one about what is missing in all files.
func (r Reader) Read(files Files) (*State, error) {
	s := &State{
		Connectors: map[route.Connector]*access.Connector{}, Classes: map[string]*v1alpha1.ConnectorClassSpec{},
		secrets: map[types.NamespacedName]*corev1.Secret{}, namespaces: map[string]*corev1.Namespace{},
	}
	for _, name := range files.names() {
		if err := r.readFile(s, name, files[name]); err != nil {
			return nil, err
		}
	}
	if s.Keys == nil {
		return nil, fmt.Errorf("no manifest describes ConfigMap '%s' of namespace '%s', so nobody could sign in; print one by 'berth token public-keys'",
			v1alpha1.TokenKeys, v1alpha1.SystemNamespace)
	}
	return s, nil
}

func (r Reader) readFile(s *State, name string, content []byte) error {
	stream, err := manifest.Parse(name, content)
	if err != nil {
		return discreet(err)
	}
	objects, err := stream.Objects()
	if err != nil {
		return discreet(err)
	}
	for _, o := range objects {
		if err := r.add(s, o); err != nil {
			return err
		}
	}
	return nil
}

// quoted is what a parser quotes of a text.
var quoted = regexp.MustCompile("'[^']*'|\"[^\"]*\"|`[^`]*`")

// discreet is an error of the parser without what it quotes: to YAML `password: *abc`
// is an alias, and what is not known is its name.
func discreet(err error) error {
	input, ok := errors.AsType[*manifest.InputError](err)
	if !ok {
		return errors.New("a manifest cannot be read")
	}
	shown := *input
	shown.Err = errors.New(quoted.ReplaceAllString(input.Err.Error(), "'…'"))
	return &shown
}

// add adds an object to the state.
func (r Reader) add(s *State, o manifest.Object) error {
	core := schema.GroupVersion{Version: "v1"}
	switch o.GroupVersionKind() {
	case v1alpha1.GroupVersion().WithKind("Connector"):
		return r.addConnector(s, o)
	case v1alpha1.GroupVersion().WithKind("ConnectorClass"):
		return s.addClass(o)
	case core.WithKind("Secret"):
		return s.addSecret(o)
	case core.WithKind("Namespace"):
		return s.addNamespace(o)
	case core.WithKind("ConfigMap"):
		return s.addKeys(o)
	default:
		return o.Fail("kind", fmt.Errorf("`kind` '%s' of `apiVersion` '%s' is none that is read here; those are Connector, ConnectorClass, Secret, Namespace and ConfigMap", o.Kind, o.APIVersion))
	}
}

func (r Reader) addConnector(s *State, o manifest.Object) error {
	var c v1alpha1.Connector
	if err := o.Decode(&c); err != nil {
		return err
	}
	name := route.Connector{Namespace: c.Namespace, Name: c.Name}
	if _, err := route.Parse(name.Format()); err != nil {
		return o.Fail("metadata.name", errors.New("a Connector must have a `metadata.namespace` and a `metadata.name`, "+
			"which must be a DNS-1035 label of at most 61 characters (lower-case letters, digits and '-', starting with a letter)"))
	}
	if _, twice := s.Connectors[name]; twice {
		return describedTwice(o)
	}
	if c.Spec.ConnectorClassName == "" {
		return o.Fail("spec", errors.New("`spec.connectorClassName` must be set, for example to 'harbor' or 'oci'"))
	}
	if err := r.checkLocal(&c.Spec); err != nil {
		return o.Fail(field(err), err)
	}
	c.UID = uid(&c)
	compiled, err := access.New(&c)
	if err != nil {
		return o.Fail(field(err), err)
	}
	s.Connectors[name] = compiled
	return nil
}

// checkLocal refuses loopback and link-local addresses, but for those that are allowed.
func (r Reader) checkLocal(spec *v1alpha1.ConnectorSpec) error {
	rest := *spec
	rest.AddressExtensions = nil
	for _, extension := range spec.AddressExtensions {
		if !r.allows(extension.Value) {
			rest.AddressExtensions = append(rest.AddressExtensions, extension)
		}
	}
	if r.allows(rest.Address) {
		rest.Address = ""
	}
	return access.CheckLocal(&rest)
}

// allows reports whether an address is one of the allowed; 'localhost' is both of its addresses.
func (r Reader) allows(address string) bool {
	parsed, err := url.Parse(address)
	if err != nil {
		return false
	}
	host := parsed.Hostname()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, p := range r.Allowed {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// field is the one that an error of package access names; without one it is about the address.
func field(err error) string {
	match := regexp.MustCompile("`(spec[^`]*)`").FindStringSubmatch(err.Error())
	if match == nil {
		return "spec.address"
	}
	return match[1]
}

// uid tells a Connector from one of the same name that was made anew or has another address.
func uid(c *v1alpha1.Connector) types.UID {
	hash := sha256.Sum256([]byte(strings.Join([]string{c.Namespace, c.Name, string(c.UID), c.Spec.Address}, "\n")))
	return types.UID(hex.EncodeToString(hash[:16]))
}

func (s *State) addClass(o manifest.Object) error {
	var c v1alpha1.ConnectorClass
	if err := o.Decode(&c); err != nil {
		return err
	}
	if err := named(o, c.ObjectMeta, false); err != nil {
		return err
	}
	if _, twice := s.Classes[c.Name]; twice {
		return describedTwice(o)
	}
	compiled, err := access.NewClass(&c)
	if err != nil {
		return o.Fail("spec", err)
	}
	s.Classes[c.Name] = &c.Spec
	s.classes = append(s.classes, compiled)
	return nil
}

func (s *State) addSecret(o manifest.Object) error {
	var found corev1.Secret
	if err := o.Decode(&found); err != nil {
		return err
	}
	if err := named(o, found.ObjectMeta, true); err != nil {
		return err
	}
	name := types.NamespacedName{Namespace: found.Namespace, Name: found.Name}
	if _, twice := s.secrets[name]; twice {
		return describedTwice(o)
	}
	if found.Data == nil {
		found.Data = map[string][]byte{}
	}
	for key, value := range found.StringData { // which wins, as it does at the API server
		found.Data[key] = []byte(value)
	}
	found.StringData = nil
	s.secrets[name] = &found
	return nil
}

func (s *State) addNamespace(o manifest.Object) error {
	var n corev1.Namespace
	if err := o.Decode(&n); err != nil {
		return err
	}
	if err := named(o, n.ObjectMeta, false); err != nil {
		return err
	}
	if _, twice := s.namespaces[n.Name]; twice {
		return describedTwice(o)
	}
	if n.UID == "" {
		n.UID = types.UID(n.Name)
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
	s.namespaces[n.Name] = &n
	return nil
}

func (s *State) addKeys(o manifest.Object) error {
	var published corev1.ConfigMap
	if err := o.Decode(&published); err != nil {
		return err
	}
	if published.Namespace != v1alpha1.SystemNamespace || published.Name != v1alpha1.TokenKeys {
		return o.Fail("metadata.name", fmt.Errorf("the one ConfigMap that is read here is '%s' of namespace '%s'", v1alpha1.TokenKeys, v1alpha1.SystemNamespace))
	}
	if s.Keys != nil {
		return describedTwice(o)
	}
	keys, err := token.ParsePublicKeys([]byte(published.Data[v1alpha1.TokenKeysFile]))
	if err != nil {
		return o.Fail("data["+v1alpha1.TokenKeysFile+"]", fmt.Errorf("`data[%s]`: %w", v1alpha1.TokenKeysFile, err))
	}
	s.Keys = &keys
	return nil
}

// describedTwice is for an object that stands in the directory already.
func describedTwice(o manifest.Object) error {
	return o.Fail("metadata.name", fmt.Errorf("this %s is described twice; remove one", o.Kind))
}

// named refuses an object that the API server would refuse for its name.
func named(o manifest.Object, meta metav1.ObjectMeta, namespaced bool) error {
	if len(validation.IsDNS1123Subdomain(meta.Name)) > 0 {
		return o.Fail("metadata.name", errors.New("`metadata.name` must be lower-case letters, digits, '-' and '.'"))
	}
	if namespaced && len(validation.IsDNS1123Label(meta.Namespace)) > 0 {
		return o.Fail("metadata", errors.New("`metadata.namespace` must name the namespace: there is no default one"))
	}
	return nil
}
