package access_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

func extended(namespace, name, address string, values ...string) *v1alpha1.Connector {
	c := connector(namespace, name, address)
	for i, value := range values {
		c.Spec.AddressExtensions = append(c.Spec.AddressExtensions, v1alpha1.AddressExtension{Name: "e" + string(rune('0'+i)), Value: value})
	}
	return c
}

func TestOriginAlwaysHasThePort(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://harbor.example.com":      "https://harbor.example.com:443",
		"https://harbor.example.com:443":  "https://harbor.example.com:443",
		"http://harbor.example.com":       "http://harbor.example.com:80",
		"http://harbor.example.com:443":   "http://harbor.example.com:443",
		"https://h.example.com/a/b":       "https://h.example.com:443",
		"https://[2001:db8::1]:5000/path": "https://[2001:db8::1]:5000",
		"https://10.0.0.1":                "https://10.0.0.1:443",
		"https://docker.io":               "https://registry-1.docker.io:443",
		"https://index.docker.io":         "https://registry-1.docker.io:443",
	} {
		if got := mustNew(t, connector("a", "a", address)).Origin(); got != want {
			t.Errorf("Origin of '%s' = '%s', want '%s'", address, got, want)
		}
	}
}

// Who asks by origin finds each Connector at the address that the origin is, and never with another scheme or port.
func TestCatalogueByOrigin(t *testing.T) {
	t.Parallel()
	var c access.Catalogue
	put := func(spec *v1alpha1.Connector) { c.Put(mustNew(t, spec)) }
	put(extended("b", "plain", "http://one.example.com"))
	put(extended("b", "two", "https://two.example.com", "https://one.example.com", "https://one.example.com:443", "https://three.example.com:8443"))
	put(extended("a", "one", "https://one.example.com/path", "https://gone.example.com"))
	put(extended("a", "one", "https://one.example.com/path"))
	put(extended("c", "one", "https://one.example.com"))
	c.Delete(route.Connector{Namespace: "c", Name: "one"})

	got := map[string][]string{}
	for _, origin := range []string{
		"https://one.example.com:443", "http://one.example.com:80", "https://one.example.com:80", "https://two.example.com:443",
		"https://three.example.com:8443", "https://three.example.com:443", "https://gone.example.com:443",
	} {
		for _, found := range c.ByOrigin(origin) {
			got[origin] = append(got[origin], found.String()+" "+found.Extension)
			if found.Origin() != origin {
				t.Errorf("by '%s' came the address '%s'", origin, found.Address)
			}
		}
	}
	want := map[string][]string{
		"https://one.example.com:443":    {"a/one ", "b/two e1", "b/two e0"},
		"http://one.example.com:80":      {"b/plain "},
		"https://two.example.com:443":    {"b/two "},
		"https://three.example.com:8443": {"b/two e2"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ByOrigin (-want +got):\n%s", diff)
	}
	c.Delete(route.Connector{Namespace: "b", Name: "two"})
	if left := names(c.ByOrigin("https://one.example.com:443")); !slices.Equal(left, []string{"a/one"}) {
		t.Errorf("after the deletion: %v", left)
	}
}

// Some clients dial Docker Hub by the one name and some by the other; who asks by either finds its Connectors.
func TestDockerHubIsOneOrigin(t *testing.T) {
	t.Parallel()
	var c access.Catalogue
	c.Put(mustNew(t, connector("a", "hub", "https://docker.io")))
	for host, want := range map[string][]string{
		"registry-1.docker.io": {"a/hub"}, "index.docker.io": {"a/hub"}, "auth.docker.io": nil, "x.index.docker.io": nil,
	} {
		if diff := cmp.Diff(want, names(c.ByOrigin(access.Origin("https", host, "443")))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", host, diff)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		connector        *v1alpha1.Connector
		names, addresses []string
	}{
		"a name":       {connector("a", "a", "https://one.example.com:8443/path"), []string{"one.example.com"}, nil},
		"an address":   {connector("a", "a", "https://[2001:db8::1]:5000"), nil, []string{"2001:db8::1"}},
		"IPv4 in IPv6": {connector("a", "a", "https://[::ffff:10.0.0.1]"), nil, []string{"10.0.0.1"}},
		"in clear":     {connector("a", "a", "http://one.example.com"), nil, nil},
		"further ones": {
			extended("a", "a", "https://one.example.com", "https://10.0.0.1", "https://two.example.com", "https://one.example.com:8443", "http://three.example.com"),
			[]string{"one.example.com", "two.example.com"},
			[]string{"10.0.0.1"},
		},
		"Docker Hub": {connector("a", "a", "https://docker.io"), []string{"registry-1.docker.io", "index.docker.io"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			names, found := mustNew(t, tc.connector).Hosts()
			var addresses []string
			for _, ip := range found {
				addresses = append(addresses, ip.String())
			}
			if diff := cmp.Diff([2][]string{tc.names, tc.addresses}, [2][]string{names, addresses}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestNewRefusesAnExtensionThatIsNoAddress(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"https://", "notary", "https://a b"} {
		if _, err := access.New(extended("a", "a", "https://one.example.com", value)); err == nil {
			t.Errorf("New takes the extension '%s'", value)
		}
	}
}
