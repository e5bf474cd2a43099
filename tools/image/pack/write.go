package pack

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// WriteLayout writes the image as an OCI layout into a directory, which must
// not exist or be empty. The image is known there under the reference.
func WriteLayout(dir, ref string, image v1.Image) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("writing the layout: '%s' must be empty or not exist", dir)
	}
	at, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("writing the layout '%s': %w", dir, err)
	}
	names := layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": ref,
		"io.containerd.image.name":          ref, // `ctr images import` names it so, whole
	})
	if err := at.AppendImage(image, names); err != nil {
		return fmt.Errorf("writing the image into the layout '%s': %w", dir, err)
	}
	return nil
}

// WriteTar writes the image as a tar of an OCI layout, as `ctr images import`
// and `docker load` take it.
func WriteTar(path, ref string, image v1.Image) error {
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return fmt.Errorf("writing '%s': %w", path, err)
	}
	defer os.RemoveAll(dir)
	if err := WriteLayout(dir, ref, image); err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	defer out.Close()
	archive := tar.NewWriter(out)
	if err := addTree(archive, dir); err != nil {
		return fmt.Errorf("writing '%s': %w", path, err)
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("writing '%s': %w", path, err)
	}
	return out.Close()
}

// addTree adds the files below dir in the order of their names, all with the
// same owner, mode and time.
func addTree(archive *tar.Writer, dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		status, err := entry.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if err := archive.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o644, Size: status.Size(), ModTime: epoch()}); err != nil {
			return err
		}
		content, err := os.Open(path)
		if err != nil {
			return err
		}
		defer content.Close()
		_, err = io.Copy(archive, content)
		return err
	})
}
