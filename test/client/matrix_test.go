// Package client runs the clients that people use, as they are released,
// through Berth: every one against a registry with a password and one with a
// token service, for every operation that it has. The table of docs/clients.md
// is made of the same list, so what it says is what was run.
//
// Each client is told of Berth's certificate authority in its own way, signs in
// with its own command, where it has one, and gets the names of images in the
// form that they have in a Pod. What it did is looked up straight at the
// registry, by another client.
package client_test

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"berth.dev/berth/test/loopback"
)

// operation is what a client is asked to do; a column of the table.
type operation string

// The operations.
const (
	pull   operation = "pull"
	push   operation = "push"
	list   operation = "list"
	copies operation = "copy"
	remove operation = "delete"
)

func operations() []operation { return []operation{pull, push, list, copies, remove} }

// client is a row of the table.
type client struct {
	name string
	// authority is how it is told of a certificate authority, in the words of the table.
	authority string
	// prepare signs in; it skips the test where the client is missing.
	prepare func(*scene)
	// cells are the operations that it has, each with a look at what came of it.
	cells map[operation]func(*scene)
	// cannot says why it has no other.
	cannot map[operation]string
}

// images are the operations of a client for images of all kinds; nil is one that it does not have.
type images struct {
	// pull makes an image a local one, and sees that it is the wanted one.
	pull func(s *scene, image string, want v1.Image)
	// push makes a local image, and returns the digest that the registry must have then.
	push   func(s *scene, image string) (digest string)
	list   func(s *scene, repository string) (tags []string)
	copy   func(s *scene, from, to string)
	delete func(s *scene, repository, digest string)
}

// upstreams are the kinds of registries, by the name that their Connector has.
func upstreams() map[string]func(*loopback.Site) *loopback.Registry {
	return map[string]func(*loopback.Site) *loopback.Registry{
		"basic": (*loopback.Site).Basic,
		"token": func(s *loopback.Site) *loopback.Registry { return s.Token("") },
	}
}

// TestMatrix is every cell of the table.
func TestMatrix(t *testing.T) {
	for kind, start := range upstreams() {
		t.Run(kind, func(t *testing.T) {
			site := loopback.New(t)
			registry := start(site)
			berth := site.Berth(map[string]loopback.Connector{kind: {Registry: registry}})
			for _, c := range clients() {
				t.Run(c.name, func(t *testing.T) {
					s := newScene(site.At(t), registry, berth, kind, c)
					c.prepare(s)
					for _, o := range operations() {
						if cell, can := c.cells[o]; can {
							t.Run(string(o), func(t *testing.T) { cell(s.at(t)) })
						}
					}
				})
			}
			onlyOurs(t, registry)
		})
	}
}

// onlyOurs looks through all that a registry was asked: no client's own token came that far.
func onlyOurs(t *testing.T, r *loopback.Registry) {
	t.Helper()
	asked := r.Seen()
	if len(asked) == 0 {
		t.Error("the registry was asked nothing")
	}
	for _, request := range asked {
		if request.Scheme == "Basic" && r.Tokens != nil {
			t.Errorf("%s %s came with Basic, though the registry has a token service", request.Method, request.URI)
		}
	}
}

// scene is one client before one registry.
type scene struct {
	*loopback.Site

	upstream *loopback.Registry
	// host is Berth's, with its port; below is what stands before the registry's own names of repositories.
	host, below string
	// token is the client's password.
	token string
	// home is a directory for all that the client keeps, and root the place of its repositories.
	home, root string
}

func newScene(site *loopback.Site, r *loopback.Registry, b *loopback.Berth, connector string, c client) *scene {
	site.Helper()
	s := &scene{
		Site: site, upstream: r, host: strings.TrimPrefix(b.HTTPS, "https://"), below: loopback.Below(connector),
		token: b.Token(loopback.Namespace, "proxy"), root: strings.ReplaceAll(c.name, " ", "-"),
	}
	s.home = s.Path(s.root)
	s.OK(os.MkdirAll(s.home, 0o755))
	return s
}

// at is the scene for a subtest.
func (s *scene) at(t *testing.T) *scene {
	t.Helper()
	again := *s
	again.Site = s.At(t)
	return &again
}

// through is the name of a repository as the client writes it.
func (s *scene) through(repository string) string {
	return s.host + "/" + s.below + s.root + "/" + repository
}

// cells are the operations, each with a look straight at the registry.
func (i images) cells() map[operation]func(*scene) {
	cells := map[operation]func(*scene){
		pull: func(s *scene) { i.pull(s, s.through("pull")+":v1", s.seed("pull", "v1")) },
		push: func(s *scene) { s.has("push:v1", i.push(s, s.through("push")+":v1")) },
	}
	if i.list != nil {
		cells[list] = func(s *scene) {
			s.seed("list", "a", "b", "c")
			if got := i.list(s, s.through("list")); !slices.Equal(got, []string{"a", "b", "c"}) {
				s.Errorf("the list was '%s', want a, b and c", got)
			}
		}
	}
	if i.copy != nil {
		cells[copies] = func(s *scene) {
			want := digestOf(s, s.seed("copy", "v1"))
			i.copy(s, s.through("copy")+":v1", s.through("copied")+":v2")
			s.has("copied:v2", want)
		}
	}
	if i.delete != nil {
		cells[remove] = func(s *scene) {
			digest := digestOf(s, s.seed("delete", "v1"))
			i.delete(s, s.through("delete"), digest)
			s.has("delete@"+digest, "")
		}
	}
	return cells
}

// has looks straight at the registry.
func (s *scene) has(image, digest string) {
	s.Helper()
	if got := s.digest(image); got != digest {
		s.Errorf("the registry has '%s' as '%s' now, want '%s'", got, image, digest)
	}
}

// straight is a name of the client's, as the registry itself has it, and how to get there.
func (s *scene) straight(image string) (name.Reference, []remote.Option) {
	s.Helper()
	reference, err := name.ParseReference(strings.TrimPrefix(s.upstream.Address, "https://") + "/" + s.root + "/" + image)
	s.OK(err)
	return reference, []remote.Option{
		remote.WithContext(s.Context()), remote.WithTransport(s.Client().Transport),
		remote.WithAuth(&authn.Basic{Username: s.upstream.Username, Password: s.upstream.Password}),
	}
}

// image makes one of two layers, in the form of OCI.
func (s *scene) image() v1.Image {
	s.Helper()
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for range 2 {
		layer, err := random.Layer(4<<10, types.OCILayer)
		s.OK(err)
		image, err = mutate.AppendLayers(image, layer)
		s.OK(err)
	}
	return image
}

// seed puts an image into the registry, past Berth.
func (s *scene) seed(repository string, tags ...string) v1.Image {
	s.Helper()
	image := s.image()
	for _, tag := range tags {
		reference, options := s.straight(repository + ":" + tag)
		s.OK(remote.Write(reference, image, options...))
	}
	return image
}

// digest is what the registry has under a name, or nothing.
func (s *scene) digest(image string) string {
	s.Helper()
	reference, options := s.straight(image)
	found, err := remote.Head(reference, options...)
	if refused, ok := err.(*transport.Error); ok && refused.StatusCode == http.StatusNotFound { //nolint:errorlint // as remote documents it
		return ""
	}
	s.OK(err)
	return found.Digest.String()
}

func digestOf(s *scene, image v1.Image) string {
	s.Helper()
	digest, err := image.Digest()
	s.OK(err)
	return digest.String()
}
