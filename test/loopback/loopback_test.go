package loopback_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"berth.dev/berth/test/loopback"
	"berth.dev/berth/test/loopback/tokenservice"
)

// TestRegistries: each takes its own credential and no other, and says what it was asked.
func TestRegistries(t *testing.T) {
	for kind, start := range map[string]func(*loopback.Site) *loopback.Registry{
		"basic":       (*loopback.Site).Basic,
		"token":       func(s *loopback.Site) *loopback.Registry { return s.Token("") },
		"referrers":   (*loopback.Site).Referrers,
		"redirecting": func(s *loopback.Site) *loopback.Registry { r, _ := s.Redirecting(); return r },
	} {
		t.Run(kind, func(t *testing.T) {
			s := loopback.New(t)
			r := start(s)
			reference, err := name.ParseReference(strings.TrimPrefix(r.Address, "https://") + "/app:v1")
			s.OK(err)
			image, err := random.Image(1000, 1)
			s.OK(err)
			write := func(user, password string) error {
				return remote.Write(reference, image, remote.WithContext(t.Context()), remote.WithTransport(s.Client().Transport),
					remote.WithAuth(&authn.Basic{Username: user, Password: password}))
			}
			if write(r.Username, "wrong") == nil || write("other", r.Password) == nil {
				t.Error("it took another credential than its own")
			}
			s.OK(write(r.Username, r.Password))
			if r.Seen != nil && len(r.Seen()) == 0 {
				t.Error("it says that it was asked nothing")
			}
		})
	}
}

// TestGrants: a token grants what the table has, and the registry heeds it.
func TestGrants(t *testing.T) {
	s := loopback.New(t)
	r := s.Token("")
	image, err := random.Image(1000, 1)
	s.OK(err)
	reference, err := name.ParseReference(strings.TrimPrefix(r.Address, "https://") + "/app:v1")
	s.OK(err)
	options := func(user, password string) []remote.Option {
		return []remote.Option{
			remote.WithContext(t.Context()), remote.WithTransport(s.Client().Transport), remote.WithAuth(&authn.Basic{Username: user, Password: password}),
		}
	}
	r.Tokens.Users["reader"] = "secret"
	r.Tokens.Grants = append(r.Tokens.Grants, tokenservice.Grant{User: "reader", Type: "repository", Name: "app", Actions: []string{"pull"}})
	s.OK(remote.Write(reference, image, options(r.Username, r.Password)...))
	if _, err := remote.Head(reference, options("reader", "secret")...); err != nil {
		t.Errorf("who may pull cannot: %v", err)
	}
	if remote.Write(reference.Context().Tag("v2"), image, options("reader", "secret")...) == nil {
		t.Error("who may pull can push")
	}
	if remote.Write(reference.Context().Tag("v2"), image, options("reader", "wrong")...) == nil {
		t.Error("a wrong password can push")
	}
	statuses := map[int]bool{}
	for _, e := range r.Tokens.Seen() {
		statuses[e.Status] = true
	}
	if diff := cmp.Diff(map[int]bool{http.StatusOK: true, http.StatusUnauthorized: true}, statuses); diff != "" {
		t.Errorf("-want +got the token service answered:\n%s", diff)
	}
}
