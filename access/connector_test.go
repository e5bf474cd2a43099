package access_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

func connector(namespace, name, address string, rules ...v1alpha1.AccessRule) *v1alpha1.Connector {
	return &v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "uid-1"},
		Spec:       v1alpha1.ConnectorSpec{Address: address, Access: rules},
	}
}

func mustNew(t testing.TB, c *v1alpha1.Connector) *access.Connector {
	t.Helper()
	compiled, err := access.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func TestNewSpellsTheRegistryAsImagesDo(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]struct{ registry, path string }{
		"https://harbor.example.com":                   {registry: "harbor.example.com"},
		"https://harbor.example.com:443":               {registry: "harbor.example.com"},
		"https://harbor.example.com:8443":              {registry: "harbor.example.com:8443"},
		"https://harbor.example.com:80":                {registry: "harbor.example.com:80"},
		"http://harbor.example.com":                    {registry: "harbor.example.com"},
		"http://harbor.example.com:80":                 {registry: "harbor.example.com"},
		"http://harbor.example.com:443":                {registry: "harbor.example.com:443"},
		"https://10.0.0.1:5000":                        {registry: "10.0.0.1:5000"},
		"https://[2001:db8::1]":                        {registry: "[2001:db8::1]"},
		"https://[2001:db8::1]:443":                    {registry: "[2001:db8::1]"},
		"https://[2001:db8::1]:5000":                   {registry: "[2001:db8::1]:5000"},
		"https://jfrog.example.com/artifactory/docker": {registry: "jfrog.example.com", path: "/artifactory/docker"},
	} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			source := connector("demo", "harbor", address)
			got := mustNew(t, source)
			if got.Registry != want.registry || got.Address.Path != want.path || got.Address.String() != address {
				t.Errorf("Registry = %q, Path = %q, want %q, %q", got.Registry, got.Address.Path, want.registry, want.path)
			}
			if got.Connector != (route.Connector{Namespace: "demo", Name: "harbor"}) || got.UID != source.UID || got.Spec != &source.Spec {
				t.Errorf("name %v, UID %q", got.Connector, got.UID)
			}
		})
	}
}

// Docker Hub has one name in images, and is reached by another.
func TestNewOfDockerHub(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]struct{ registry, upstream string }{
		"https://docker.io":                {registry: "docker.io", upstream: "https://registry-1.docker.io"},
		"https://index.docker.io":          {registry: "docker.io", upstream: "https://registry-1.docker.io"},
		"https://registry-1.docker.io":     {registry: "docker.io", upstream: "https://registry-1.docker.io"},
		"https://registry-1.docker.io:443": {registry: "docker.io", upstream: "https://registry-1.docker.io"},
		"https://docker.io/library":        {registry: "docker.io", upstream: "https://registry-1.docker.io/library"},
		"https://docker.io:8443":           {registry: "docker.io:8443", upstream: "https://docker.io:8443"},
		"http://docker.io":                 {registry: "docker.io", upstream: "http://docker.io"},
		"https://mirror.docker.io":         {registry: "mirror.docker.io", upstream: "https://mirror.docker.io"},
		"https://evil-docker.io":           {registry: "evil-docker.io", upstream: "https://evil-docker.io"},
	} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			got := mustNew(t, connector("demo", "hub", address))
			if got.Registry != want.registry || got.Address.String() != want.upstream {
				t.Errorf("Registry = %q, Address = %q, want %q, %q", got.Registry, got.Address, want.registry, want.upstream)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*v1alpha1.Connector{
		"no address":   connector("demo", "harbor", ""),
		"no host":      connector("demo", "harbor", "https://:443"),
		"no scheme":    connector("demo", "harbor", "harbor.example.com"),
		"no URL":       connector("demo", "harbor", "https://[::1"),
		"broken rules": connector("demo", "harbor", "https://harbor.example.com", patterns(same(), "[")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := access.New(c); err == nil {
				t.Errorf("New accepts it, as '%s'", got.Registry)
			}
		})
	}
}
