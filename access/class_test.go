package access_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
)

func class(t testing.TB, api ...v1alpha1.ClassAPI) *access.Class {
	t.Helper()
	compiled, err := access.NewClass(&v1alpha1.ConnectorClass{ObjectMeta: metav1.ObjectMeta{Name: "test"}, Spec: v1alpha1.ConnectorClassSpec{API: api}})
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// harbor is the class that comes with Berth.
func harbor(t testing.TB) *access.Class {
	t.Helper()
	file, err := os.ReadFile("../manifests/base/classes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(file), "\n---\n") {
		var c v1alpha1.ConnectorClass
		if err := yaml.UnmarshalStrict([]byte(document), &c); err != nil {
			t.Fatal(err)
		}
		if c.Name == "harbor" {
			return class(t, c.Spec.API...)
		}
	}
	t.Fatal("there is no class 'harbor'")
	return nil
}

func TestHarborClass(t *testing.T) {
	t.Parallel()
	const artifact = "/api/v2.0/projects/library/repositories/team%252Fapp/artifacts/sha256:abc"
	for request, want := range map[string]error{
		"GET /api/v2.0/ping":                                        nil,
		"HEAD /api/v2.0/projects":                                   nil,
		"GET /api/v2.0/users/current":                               nil,
		"GET /api/v2.0/projects/library":                            nil,
		"GET /api/v2.0/projects/robots":                             nil, // a project of that name
		"GET /api/v2.0/projects/library/repositories/token":         nil,
		"GET /api/v2.0/projects/library/repositories/a%252Fb%252F1": nil,
		"GET " + artifact:                                           nil,
		"GET " + artifact + "/additions/vulnerabilities":            nil,
		"POST " + artifact + "/scan":                                nil,
		"GET " + artifact + "/scan/1/log":                           nil,

		"POST /api/v2.0/projects":               access.ErrAPIClosed,
		"DELETE " + artifact:                    access.ErrAPIClosed,
		"GET " + artifact + "/scan":             access.ErrAPIClosed,
		"GET /api/v2.0/projects/library/logs":   access.ErrAPIClosed,
		"GET /api/v2.0/system/gc":               access.ErrAPIClosed,
		"GET /api/v2.0/ping/more":               access.ErrAPIClosed,
		"GET /harbor/projects":                  access.ErrAPIClosed,
		"get /api/v2.0/ping":                    access.ErrAPIClosed,
		"GET /API/v2.0/ping":                    access.ErrAPIClosed,
		"GET /api/v2.0/users/current/x":         access.ErrAPICredentials,
		"GET /api/v2.0/projects/library/robots": access.ErrAPICredentials,
	} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			method, path, _ := strings.Cut(request, " ")
			if err := harbor(t).Check(method, path); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("Check: %v, want %v", err, want)
			}
		})
	}
}

// TestNoClassOpensCredentials asks a class that lists everything.
func TestNoClassOpensCredentials(t *testing.T) {
	t.Parallel()
	everything := class(t, v1alpha1.ClassAPI{Methods: []v1alpha1.APIMethod{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, Paths: []string{"/**"}})
	for _, request := range []string{
		"GET /service/token", "POST /service/notifications/jobs", "POST /c/login", "GET /c/oidc/login", "GET /C/log_out", "GET /v2", "GET /v2/_catalog", "GET /v2/a/manifests/v1", "GET /v2/token",
		"GET /api/v2.0/robots", "POST /api/v2.0/robots", "PATCH /api/v2.0/robots/1", "GET /api/v2.0/projects/1/robots", "POST /api/v2.0/projects/1/robots/2", "GET /api/robots",
		"GET /api/v2.0/users", "POST /api/v2.0/users", "GET /api/v2.0/users/1", "PUT /api/v2.0/users/1/cli_secret", "PUT /api/v2.0/users/1/password", "PUT /api/v2.0/users/current", "GET /api/v2.0/users/search",
		"PUT /api/v2.0/users/current/permissions", "GET /api/v2.0/users/current/cli_secret",
		"GET /api/v2.0/registries", "POST /api/v2.0/registries/ping", "GET /api/v2.0/registries/1/info", "POST /api/v2.0/replication/policies", "GET /api/v2.0/replication/adapters",
		"GET /api/v2.0/projects/1/webhook/policies", "POST /api/v2.0/projects/1/webhook/policies", "GET /api/v2.0/projects/1/scanner", "POST /api/v2.0/projects/1/members",
		"GET /api/v2.0/configurations", "PUT /api/v2.0/configurations", "GET /api/v2.0/internalconfig", "GET /api/internal/configurations", "GET /api/internalconfig",
		"GET /api/v2.0/ldap/users/search", "POST /api/v2.0/ldap/ping", "GET /api/v2.0/usergroups", "POST /api/v2.0/oidc/ping", "GET /api/v2.0/scanners", "GET /api/v2.0/p2p/preheat/instances",
		"GET /api/v2.0/jobservice/pools", "GET /API/V2.0/Robots", "GET /artifactory/api/security/apiKey", "POST /access/api/v1/tokens", "GET /artifactory/api/v2/tokens", "GET /debug/pprof/heap",
		"GET /api/v2.0/robots/", "GET /api/v2.0/users/current/", "GET /api/v2.0/projects/1/robots/", "GET /service/", "GET /v2/",
		"GET /service/rest/v1/security/users", "GET /rest/security/users", "GET /x/oauth/token",
	} {
		method, path, _ := strings.Cut(request, " ")
		if err := everything.Check(method, path); !errors.Is(err, access.ErrAPICredentials) {
			t.Errorf("%s: %v, want %v", request, err, access.ErrAPICredentials)
		}
	}
	for _, path := range []string{"/api/v2.0/users/current", "/api/v2.0/users/current/permissions", "/api/v2.0/projects/users/summary", "/api/v2.0/projects/1/repositories/robots", "/api/v2.0/quotas", "/api"} {
		if err := everything.Check("GET", path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAPIPaths(t *testing.T) {
	t.Parallel()
	everything := class(t, v1alpha1.ClassAPI{Paths: []string{"/**"}})
	for _, path := range []string{
		"", "/", "api", "//api", "/api//x", "/api//", "//", "/./", "/api/./x", "/api/../x", "/api/.../x", "/api/%2e%2e/x", "/api/%2E/x", "/api/a%2fb", "/api/a%2Fb", "/api/a%252fb", "/api/a%25252Fb", "/api/%252F", "/api/a%252F",
		"/api/a%252F..%252Fb", "/api/a%252F%252Fb", `/api/a\b`, "/api/a;b", "/api/a?b", "/api/a#b", "/api/a b", "/api/a\x00b", "/api/a%00", "/api/é", "/api/a%20b", "/api/a%3Fb", "/" + strings.Repeat("a", 2048), "/api/a*", "/api/a\r\nb",
	} {
		if err := everything.Check("GET", path); !errors.Is(err, access.ErrAPIPath) {
			t.Errorf("%q: %v, want %v", path, err, access.ErrAPIPath)
		}
	}
}

func TestClassesOfTheCatalogue(t *testing.T) {
	t.Parallel()
	var c access.Catalogue
	if err := c.Class("test").Check("GET", "/api/x"); !errors.Is(err, access.ErrAPIClosed) {
		t.Errorf("a class that is not there: %v", err)
	}
	c.PutClass(class(t, v1alpha1.ClassAPI{Paths: []string{"/api/*"}}))
	if err := c.Class("test").Check("GET", "/api/x"); err != nil {
		t.Errorf("a class that is there: %v", err)
	}
	c.DeleteClass("test")
	if err := c.Class("test").Check("GET", "/api/x"); !errors.Is(err, access.ErrAPIClosed) {
		t.Errorf("a class that went: %v", err)
	}
	broken := &v1alpha1.ConnectorClass{Spec: v1alpha1.ConnectorClassSpec{API: []v1alpha1.ClassAPI{{Paths: []string{"/["}}}}}
	if _, err := access.NewClass(broken); err == nil {
		t.Error("a pattern that is none compiles")
	}
}

// TestAllRepositories: what is about the registry as a whole needs a rule about all repositories.
func TestAllRepositories(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]error{"": nil, "**": nil, "*": access.ErrRepository, "*/**": access.ErrRepository, "team/**": access.ErrRepository} {
		rule := v1alpha1.AccessRule{Actions: []v1alpha1.Action{v1alpha1.ActionAPI}}
		if pattern != "" {
			rule.Repositories = []string{pattern}
		}
		rules, err := access.Compile("demo", []v1alpha1.AccessRule{rule})
		if err != nil {
			t.Fatal(err)
		}
		if err := rules.Check(access.Caller{Namespace: "demo"}, "", v1alpha1.ActionAPI); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("pattern '%s': %v, want %v", pattern, err, want)
		}
	}
}

// TestSlashAtTheEnd: only who opens all below a path opens it with a slash at its end.
func TestSlashAtTheEnd(t *testing.T) {
	t.Parallel()
	c := class(t, v1alpha1.ClassAPI{Paths: []string{"/simple/**", "/api/*", "/exact"}})
	for path, want := range map[string]error{
		"/simple/": nil, "/simple/name/": nil, "/simple/name": nil, "/api/x": nil, "/api/x/": access.ErrAPIClosed, "/api/": access.ErrAPIClosed,
		"/exact": nil, "/exact/": access.ErrAPIClosed, "/simple//": access.ErrAPIPath, "/simple/../": access.ErrAPIPath,
	} {
		if err := c.Check("GET", path); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

func FuzzAPIPath(f *testing.F) {
	for _, seed := range []string{"/api/v2.0/ping", "/api/../x", "/api/a%252Fb", "/service/token", "/API/v2.0/robots", "/api/v2.0/projects/a/robots", "/api/x/"} {
		f.Add(seed)
	}
	everything := class(f, v1alpha1.ClassAPI{Paths: []string{"/**"}})
	f.Fuzz(func(t *testing.T, path string) {
		if everything.Check("GET", path) != nil {
			return
		}
		plain := strings.ToLower(strings.ReplaceAll(path, "%252F", "/"))
		for _, evil := range []string{"%", "//", "/./", "/../", "\\", "?", "#", ";", " ", "\x00"} {
			if strings.Contains(strings.TrimSuffix(plain, "/")+"/", evil) {
				t.Errorf("%q passes, with %q in it", path, evil)
			}
		}
		for _, area := range []string{"/v2/", "/c/", "/service/", "/api/robots/", "/api/v2.0/robots/", "/api/v2.0/configurations/"} {
			if strings.HasPrefix(strings.ToLower(path)+"/", area) {
				t.Errorf("%q passes", path)
			}
		}
	})
}
