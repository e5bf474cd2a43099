package access

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"berth.dev/berth/api/v1alpha1"
)

const maxAPIPath = 2048

// The refusals that Class.Check returns.
var (
	// ErrAPIPath: the path is none that Berth would send on, whatever the class lists.
	ErrAPIPath = errors.New("not a path of a server's API")
	// ErrAPICredentials: it makes, shows or sends credentials, so no class can open it.
	ErrAPICredentials = errors.New("it is about credentials, and stays shut for everyone")
	// ErrAPIClosed: the class does not list it.
	ErrAPIClosed = errors.New("the class does not open it")
)

// Class is what a ConnectorClass opens of its servers' own API, compiled. The
// zero value opens nothing.
type Class struct {
	// Name is the ConnectorClass's.
	Name string
	api  []opening
}

type opening struct {
	methods []v1alpha1.APIMethod
	paths   []string
}

// NewClass compiles a ConnectorClass. It fails on a pattern that the API server would not have admitted.
func NewClass(c *v1alpha1.ConnectorClass) (*Class, error) {
	compiled := &Class{Name: c.Name}
	for i := range c.Spec.API {
		methods := c.Spec.API[i].Methods
		if len(methods) == 0 {
			methods = []v1alpha1.APIMethod{"GET", "HEAD"}
		}
		for _, p := range c.Spec.API[i].Paths {
			if !strings.HasPrefix(p, "/") || !doublestar.ValidatePattern(p) {
				return nil, fmt.Errorf("ConnectorClass '%s': `spec.api[%d].paths`: '%s' is not a pattern", c.Name, i, p)
			}
		}
		compiled.api = append(compiled.api, opening{methods: methods, paths: c.Spec.API[i].Paths})
	}
	return compiled, nil
}

// Check returns nil where the class opens a path below the server's address to
// a method. The path is as it stood in the request, percent-encoding and all:
//
//	path    = 1*( "/" segment ) [ "/" ]                  ; at most 2048 characters
//	segment = 1*( letter | digit | "." | "_" | "~" | "-" | ":" | "@" | "=" | "+" | "," )   ; not dots alone
//	        | component 1*( "%252F" component )
//
// The second form is how Harbor wants a repository with slashes in one segment.
// A path with a slash at its end, as pip asks for, is opened by a pattern that
// ends in `**` alone: to some servers it is the one without, to others another.
func (c *Class) Check(method, path string) error {
	if err := checkAPIPath(path); err != nil {
		return err
	}
	if aboutCredentials(method, strings.Split(strings.ToLower(path[1:]), "/")) {
		return ErrAPICredentials
	}
	for _, o := range c.api {
		if !slices.Contains(o.methods, v1alpha1.APIMethod(method)) {
			continue
		}
		if slices.ContainsFunc(o.paths, func(p string) bool {
			return (path[len(path)-1] != '/' || strings.HasSuffix(p, "**")) && doublestar.MatchUnvalidated(p, path)
		}) {
			return nil
		}
	}
	return ErrAPIClosed
}

func checkAPIPath(p string) error {
	if len(p) > maxAPIPath || !strings.HasPrefix(p, "/") {
		return fmt.Errorf("%w: it must start with '/' and have at most %d characters", ErrAPIPath, maxAPIPath)
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(p[1:], "/"), "/") {
		for component := range strings.SplitSeq(segment, "%252F") {
			if strings.Trim(component, ".") == "" || strings.IndexFunc(component, notInAPIPath) >= 0 {
				return fmt.Errorf("%w: segment '%s' must be letters, digits and any of . _ ~ - : @ = + , and '%%252F' for a slash within a name", ErrAPIPath, segment)
			}
		}
	}
	return nil
}

func notInAPIPath(c rune) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return false
	}
	return !strings.ContainsRune("._~-:@=+,", c)
}

// aboutCredentials reports whether a path makes, shows or sends credentials, or
// is the way that access rules of other actions are for. It asks where names
// are the server's; further down they are its users', and a project may be
// called 'robots'.
func aboutCredentials(method string, segments []string) bool {
	if isBesideAPI(segments[0]) {
		return true
	}
	at := slices.Index(segments, "api")
	if at < 0 || at > 1 { // '/api/…' or '/PRODUCT/api/…'
		return slices.ContainsFunc(segments, isCredentialArea)
	}
	rest := segments[at+1:]
	if len(rest) > 0 && isVersion(rest[0]) {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return false
	}
	if rest[0] == "users" && len(rest) > 1 && rest[1] == "current" {
		return len(rest) > 2 && rest[2] != "permissions" || method != "GET" && method != "HEAD"
	}
	return isCredentialArea(rest[0]) || rest[0] == "projects" && len(rest) > 2 && isCredentialAreaOfProject(rest[2])
}

// isVersion reports whether s is as 'v2.0' or 'v1'.
func isVersion(s string) bool {
	ok, _ := path.Match("v[0-9]*", s) // the pattern is good
	return ok
}

// isBesideAPI reports whether a first segment leads to what is no API of the server's own: the registry, whose
// actions are pull, push and delete; signing in; token services; what other parts of the server are told.
func isBesideAPI(s string) bool {
	switch s {
	case "v1", "v2", "c", "service", "account", "accounts", "login", "logout", "token", "auth", "oauth", "oauth2", "oidc", "saml", "access", "debug", "artifacts-uploads":
		return true
	}
	return false
}

// isCredentialArea reports whether a part of an API is about credentials: Harbor's names, and those of other servers.
func isCredentialArea(s string) bool {
	switch s {
	case "robots", "robot", "users", "user", "usergroups", "groups", "registries", "replication", "replications", "scanners", "p2p",
		"configurations", "configuration", "config", "internalconfig", "internal", "ldap", "oidc", "saml", "email", "jobservice",
		"security", "token", "tokens", "auth", "oauth", "oauth2", "login", "session", "sessions", "csrf", "secret", "secrets", "apikey", "apikeys", "credentials":
		return true
	}
	return false
}

func isCredentialAreaOfProject(s string) bool {
	switch s {
	case "robots", "webhook", "webhooks", "scanner", "members":
		return true
	}
	return false
}
