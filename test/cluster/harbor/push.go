package harbor

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"berth.dev/berth/test/cluster/layout"
)

// Reference completes NAME[:TAG] to a reference at the upstream.
func Reference(image string) (name.Reference, error) {
	image = strings.TrimPrefix(image, layout.HarborName+"/")
	ref, err := name.ParseReference(layout.HarborName+"/"+image, name.WithDefaultTag("latest"))
	if err != nil {
		return nil, fmt.Errorf("'%s' must be a repository with or without a tag, such as team/app:v1: %w", image, err)
	}
	return ref, nil
}

// Push uploads an image with the credential and returns its digest. It must
// run inside the node's namespaces, where the upstream's name and CA are known.
func Push(ctx context.Context, ref name.Reference, image v1.Image, credential Credential) (v1.Hash, error) {
	login := authn.FromConfig(authn.AuthConfig{Username: credential.Username, Password: credential.Password})
	if err := remote.Write(ref, image, remote.WithContext(ctx), remote.WithAuth(login)); err != nil {
		return v1.Hash{}, fmt.Errorf("pushing '%s': %w", ref, err)
	}
	return image.Digest()
}
