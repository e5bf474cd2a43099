package pack

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// program is the smallest static ELF file for the machine: a header alone.
func program(machine byte) []byte {
	header := make([]byte, 64)
	copy(header, "\x7fELF\x02\x01\x01")
	header[16], header[18], header[20], header[52], header[58] = 2, machine, 1, 64, 64
	return header
}

const (
	amd64   = 62
	arm64   = 183
	riscv64 = 243
)

func contents() Contents {
	return Contents{
		Programs:     []Program{{"/berth", program(amd64)}, {"/bin/more", program(amd64)}},
		User:         "65532:65532",
		Certificates: []byte("PEM"),
	}
}

func TestImage(t *testing.T) {
	image := must(Image(contents()))(t)
	config := must(image.ConfigFile())(t)
	if config.Architecture != "amd64" || config.OS != "linux" || config.Config.User != "65532:65532" ||
		!slices.Equal(config.Config.Entrypoint, []string{"/berth"}) {
		t.Errorf("configuration: %+v", config)
	}
	want := []string{
		"berth", "bin/", "bin/more", "etc/", "etc/group", "etc/passwd", "etc/ssl/", "etc/ssl/certs/",
		"etc/ssl/certs/ca-certificates.crt", "tmp/",
	}
	if got := entries(t, image); !slices.Equal(got, want) {
		t.Errorf("files:\ngot  %v\nwant %v", got, want)
	}
}

func TestImageUponABase(t *testing.T) {
	c := contents()
	c.Base = filepath.Join(t.TempDir(), "base.tar")
	var base bytes.Buffer
	out := tar.NewWriter(&base)
	if err := errors.Join(out.WriteHeader(&tar.Header{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "dash"}), out.Close(), os.WriteFile(c.Base, base.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	image := must(Image(c))(t)
	if layers := must(image.Layers())(t); len(layers) != 2 {
		t.Fatalf("%d layers, want 2", len(layers))
	}
	if got := entries(t, image); !slices.Contains(got, "bin/sh") || !slices.Contains(got, "berth") {
		t.Errorf("files: %v", got)
	}
	c.Base += ".gone"
	if _, err := Image(c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the base: %v", err)
	}
}

func TestImageTwiceIsTheSame(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "1.tar"), filepath.Join(t.TempDir(), "2.tar")
	for _, path := range []string{one, two} {
		if err := WriteTar(path, "berth.dev/berth:dev", must(Image(contents()))(t)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(must(os.ReadFile(one))(t), must(os.ReadFile(two))(t)) {
		t.Error("two builds of the same image differ")
	}
}

func TestImageWithoutCertificates(t *testing.T) {
	c := contents()
	c.Certificates = nil
	if got := entries(t, must(Image(c))(t)); slices.Contains(got, "etc/ssl/") {
		t.Errorf("files: %v", got)
	}
}

func TestImageRefuses(t *testing.T) {
	dynamic := program(amd64)
	dynamic[32], dynamic[54], dynamic[56] = 64, 56, 1                    // one program header, after this one
	dynamic = append(dynamic, append([]byte{3}, make([]byte, 55)...)...) // PT_INTERP
	for name, test := range map[string]struct {
		programs []Program
		want     string
	}{
		"none":               {nil, "at least one program"},
		"not ELF":            {[]Program{{"/x", []byte("#!/bin/sh")}}, "GOOS=linux"},
		"dynamic":            {[]Program{{"/x", dynamic}}, "CGO_ENABLED=0"},
		"other machine":      {[]Program{{"/x", program(riscv64)}}, "amd64 or arm64"},
		"two kinds together": {[]Program{{"/x", program(amd64)}, {"/y", program(arm64)}}, "one architecture"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Image(Contents{Programs: test.programs})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with '%s'", err, test.want)
			}
		})
	}
}

func TestWriteLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	image := must(Image(contents()))(t)
	if err := WriteLayout(dir, "berth.dev/berth:dev", image); err != nil {
		t.Fatal(err)
	}
	index := must(layout.ImageIndexFromPath(dir))(t)
	manifest := must(index.IndexManifest())(t)
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest != must(image.Digest())(t) ||
		manifest.Manifests[0].Annotations["io.containerd.image.name"] != "berth.dev/berth:dev" {
		t.Errorf("index: %+v", manifest)
	}
	if err := WriteLayout(dir, "berth.dev/berth:dev", image); err == nil {
		t.Error("wrote into a directory that was not empty")
	}
}

func entries(t *testing.T, image v1.Image) []string {
	t.Helper()
	var names []string
	for _, layer := range must(image.Layers())(t) {
		content := must(layer.Uncompressed())(t)
		names = append(names, entriesOf(t, content)...)
		if err := content.Close(); err != nil {
			t.Error(err)
		}
	}
	return names
}

func entriesOf(t *testing.T, content io.Reader) (names []string) {
	t.Helper()
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if !header.ModTime.Equal(epoch()) || header.Uid != 0 || header.Gid != 0 {
			t.Errorf("%s: time %s, owner %d:%d", header.Name, header.ModTime, header.Uid, header.Gid)
		}
		names = append(names, header.Name)
	}
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
