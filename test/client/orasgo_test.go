package client_test

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
	orasgo "oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// orasGo is the library, in the test itself.
func orasGo() client {
	return client{
		name: "oras-go", authority: "the program's `http.Client`",
		prepare: func(*scene) {},
		cells: images{
			pull: func(s *scene, image string, want v1.Image) {
				store, err := oci.New(s.file("pulled"))
				s.OK(err)
				_, err = orasgo.Copy(s.Context(), s.repository(image), "v1", store, "v1", orasgo.DefaultCopyOptions)
				s.OK(err)
				s.laidOut(s.file("pulled"), want)
			},
			push: func(s *scene, image string) string {
				dir, digest := s.layout(image)
				store, err := oci.New(dir)
				s.OK(err)
				_, err = orasgo.Copy(s.Context(), store, "v1", s.repository(image), "v1", orasgo.DefaultCopyOptions)
				s.OK(err)
				return digest
			},
			list: func(s *scene, repository string) (all []string) {
				found := s.repository(repository)
				found.TagListPageSize = 1
				s.OK(found.Tags(s.Context(), "", func(tags []string) error {
					all = append(all, tags...)
					return nil
				}))
				return all
			},
			copy: func(s *scene, from, to string) {
				_, err := orasgo.Copy(s.Context(), s.repository(from), "v1", s.repository(to), "v2", orasgo.DefaultCopyOptions)
				s.OK(err)
			},
			delete: func(s *scene, repository, digest string) {
				found := s.repository(repository)
				descriptor, err := found.Resolve(s.Context(), digest)
				s.OK(err)
				s.OK(found.Delete(s.Context(), descriptor))
			},
		}.cells(),
	}
}

// repository is that of an image, for a client that is signed in.
func (s *scene) repository(image string) *remote.Repository {
	s.Helper()
	repository, err := remote.NewRepository(image)
	s.OK(err)
	repository.Client = &auth.Client{
		Client: s.Client(), Cache: auth.NewCache(),
		Credential: auth.StaticCredential(s.host, auth.Credential{Username: "any", Password: s.token}),
	}
	return repository
}
