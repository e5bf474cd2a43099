package bearer

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseChallenge(t *testing.T) {
	t.Parallel()
	const realm = "https://auth.example.com/token"
	for name, test := range map[string]struct {
		lines []string
		want  Challenge
		ok    bool
	}{
		"Distribution": {
			[]string{`Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="repository:a/b:pull,push",error="invalid_token"`},
			Challenge{Realm: realm, Service: "registry.example.com", Scopes: []Scope{"repository:a/b:pull,push"}, Error: InvalidToken},
			true,
		},
		"two scopes":            {[]string{`Bearer realm="https://auth.example.com/token",scope="repository:a:pull repository:b:pull"`}, Challenge{Realm: realm, Scopes: []Scope{"repository:a:pull", "repository:b:pull"}}, true},
		"any case, any space":   {[]string{"bEARER  REALM = \"https://auth.example.com/token\" ,\tService=x"}, Challenge{Realm: realm, Service: "x"}, true},
		"after Basic":           {[]string{`Basic realm="harbor"`, `Bearer realm="https://auth.example.com/token"`}, Challenge{Realm: realm}, true},
		"after Basic, one line": {[]string{`Basic realm="a, Bearer realm=b", Bearer realm="https://auth.example.com/token"`}, Challenge{Realm: realm}, true},
		"after Negotiate":       {[]string{`Negotiate, Bearer realm="https://auth.example.com/token"`}, Challenge{Realm: realm}, true},
		"after a token68":       {[]string{`Negotiate YWJj==, Bearer realm="https://auth.example.com/token"`}, Challenge{Realm: realm}, true},
		"before Basic":          {[]string{`Bearer realm="https://auth.example.com/token", Basic realm="x", service="y"`}, Challenge{Realm: realm}, true},
		"quoted pairs":          {[]string{`Bearer realm="https:\//auth.example.com\/token",service="a\"b\\"`}, Challenge{Realm: realm, Service: `a"b\`}, true},
		"twice the same":        {[]string{`Bearer realm="https://auth.example.com/token",realm="https://evil.example.org"`}, Challenge{Realm: realm}, true},
		"too many scopes":       {[]string{`Bearer realm="https://auth.example.com/token",scope="` + strings.Repeat("a ", 17) + `"`}, Challenge{Realm: realm}, true},
		"scope of no ASCII":     {[]string{`Bearer realm="https://auth.example.com/token",scope="ä"`}, Challenge{Realm: realm}, true},
		"none":                  {nil, Challenge{}, false},
		"Basic":                 {[]string{`Basic realm="harbor"`}, Challenge{}, false},
		"no realm":              {[]string{`Bearer service="x"`}, Challenge{}, false},
		"empty":                 {[]string{""}, Challenge{}, false},
		"no end":                {[]string{`Bearer realm="https://auth.example.com/token`}, Challenge{}, false},
		"no scheme":             {[]string{`realm="https://auth.example.com/token"`}, Challenge{}, false},
		"too long":              {[]string{`Bearer realm="https://auth.example.com/token",service="` + strings.Repeat("x", maxChallenge) + `"`}, Challenge{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := ParseChallenge(http.Header{"Www-Authenticate": test.lines})
			if diff := cmp.Diff(test.want, got); diff != "" || ok != test.ok {
				t.Errorf("ok %t, (-want +got)\n%s", ok, diff)
			}
		})
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		scope, other Scope
		want         bool
	}{
		"same":             {Repository("a", Pull), Repository("a", Pull), true},
		"more":             {Repository("a", Pull, Push), Repository("a", Push), true},
		"other order":      {Repository("a", Pull, Push), Repository("a", Push, Pull), true},
		"less":             {Repository("a", Pull), Repository("a", Pull, Push), false},
		"other repository": {Repository("a", Pull), Repository("b", Pull), false},
		"other kind":       {Repository("catalog", "*"), Catalog(), false},
		"part of a word":   {Repository("a", "pulled"), Repository("a", Pull), false},
		"with a port":      {"repository:host:5000/a:pull", "repository:host:5000/a:pull", true},
		"no actions":       {"a", "a", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.scope.Covers(test.other); got != test.want {
				t.Errorf("%s covers %s: %t", test.scope, test.other, got)
			}
		})
	}
}

// FuzzParseChallenge: what is read survives being written and read again, and the credential never leaves the trust.
func FuzzParseChallenge(f *testing.F) {
	for _, line := range []string{
		`Bearer realm="https://auth.example.com/token",service="s",scope="repository:a:pull"`, `Basic realm="x", Bearer realm=https://registry.example.com`,
		`Negotiate a==, bearer realm="http://10.0.0.1\\"`, `Bearer realm="https://user:pass@registry.example.com@evil.org/`, `Bearer realm="//registry.example.com"`, `,=",\`,
	} {
		f.Add(line)
	}
	trust := trusting(f, "https://registry.example.com:5000/artifactory", "https://tokens.example.org:444")
	f.Fuzz(func(t *testing.T, line string) {
		c, ok := ParseChallenge(http.Header{"Www-Authenticate": {line}})
		if !ok {
			if diff := cmp.Diff(Challenge{}, c); diff != "" {
				t.Errorf("no challenge, and yet one: %s", diff)
			}
			return
		}
		quote := func(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }
		scopes := make([]string, len(c.Scopes))
		for i, scope := range c.Scopes {
			scopes[i] = string(scope)
		}
		written := "Bearer realm=" + quote(c.Realm) + ",service=" + quote(c.Service) + ",error=" + quote(c.Error) + ",scope=" + quote(strings.Join(scopes, " "))
		if len(written) <= maxChallenge {
			again, _ := ParseChallenge(http.Header{"Www-Authenticate": {written}})
			if diff := cmp.Diff(c, again); diff != "" {
				t.Errorf("written as %s (-first +again)\n%s", written, diff)
			}
		}
		to, err := trust.service(c.Realm, false)
		if err != nil {
			return
		}
		host := strings.ToLower(strings.TrimSuffix(to.Hostname(), "."))
		own := host == "example.com" || strings.HasSuffix(host, ".example.com")
		if to.Scheme != "https" || to.User != nil || !own && to.Host != "tokens.example.org:444" {
			t.Errorf("the credential may go to %s", to)
		}
	})
}
