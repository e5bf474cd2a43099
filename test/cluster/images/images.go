// Package images makes the images of the test cluster: one static program,
// and random bytes where an image has to be big.
package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// App is the image of the program, as /app, with the layers on top of it.
func App(program string, layers ...v1.Layer) (v1.Image, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("making an image: %w", err)
	}
	base, err := programLayer(content)
	if err != nil {
		return nil, fmt.Errorf("making the layer of '%s': %w", program, err)
	}
	image := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	image, err = mutate.AppendLayers(image, append([]v1.Layer{base}, layers...)...)
	if err != nil {
		return nil, fmt.Errorf("joining the layers of an image: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of an image: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{Entrypoint: []string{"/app"}, WorkingDir: "/", User: "65532:65532"}
	return mutate.ConfigFile(image, config)
}

func programLayer(program []byte) (v1.Layer, error) {
	var archive bytes.Buffer
	out := tar.NewWriter(&archive)
	entries := []struct {
		header  tar.Header
		content []byte
	}{
		{tar.Header{Name: "etc/", Mode: 0o755, Typeflag: tar.TypeDir}, nil},
		{tar.Header{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir}, nil},
		{tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/:/app\nnonroot:x:65532:65532:nonroot:/:/app\n")},
		{tar.Header{Name: "app", Mode: 0o755}, program},
	}
	for _, entry := range entries {
		entry.header.Size = int64(len(entry.content))
		if err := out.WriteHeader(&entry.header); err != nil {
			return nil, err
		}
		if _, err := out.Write(entry.content); err != nil {
			return nil, err
		}
	}
	if err := out.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

// Save writes an image as a tar that `ctr images import` takes.
func Save(path, ref string, image v1.Image) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return fmt.Errorf("saving an image: %w", err)
	}
	if err := tarball.WriteToFile(path, tag, image); err != nil {
		return fmt.Errorf("saving the image '%s': %w", ref, err)
	}
	return nil
}
