// Package pack makes container images out of static programs, without Docker
// and without a base image.
//
// Equal inputs give equal images: every file has the same owner and the same
// time, files stand in a fixed order, and nothing of the machine or the moment
// goes in. The digest can therefore be checked by building again.
package pack

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Program is one static program.
type Program struct {
	Path    string // in the image, such as /berth
	Content []byte
}

// Contents is everything that an image consists of.
type Contents struct {
	Programs     []Program // the first is the entrypoint
	User         string    // such as 65532:65532
	Certificates []byte    // PEM bundle of CAs to trust; may be empty
	Labels       map[string]string
	Base         string // file with the tar of a root file system that all else is put upon; may be empty
}

const certificates = "etc/ssl/certs/ca-certificates.crt"

const passwd = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"

const group = "root:x:0:\nnonroot:x:65532:\n"

// Image makes an image of one layer, upon that of the base where there is one.
func Image(c Contents) (v1.Image, error) {
	if len(c.Programs) == 0 {
		return nil, fmt.Errorf("an image must have at least one program")
	}
	architecture, err := architecture(c.Programs)
	if err != nil {
		return nil, err
	}
	layers, err := c.layers()
	if err != nil {
		return nil, err
	}
	image := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	image, err = mutate.AppendLayers(image, layers...)
	if err != nil {
		return nil, fmt.Errorf("adding the layers: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", architecture, v1.Time{Time: epoch()}
	config.Config = v1.Config{Entrypoint: []string{c.Programs[0].Path}, User: c.User, WorkingDir: "/", Labels: c.Labels}
	return mutate.ConfigFile(image, config)
}

// epoch is the time of every file and of the image.
func epoch() time.Time { return time.Unix(0, 0).UTC() }

func (c Contents) layers() ([]v1.Layer, error) {
	own, err := c.layer()
	if err != nil || c.Base == "" {
		return []v1.Layer{own}, err
	}
	base, err := tarball.LayerFromFile(c.Base, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("reading the base: %w", err)
	}
	return []v1.Layer{base, own}, nil
}

func (c Contents) layer() (v1.Layer, error) {
	archive, err := c.archive()
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

// file is one entry of the layer; a name that ends in a slash is a directory.
type file struct {
	name    string
	mode    int64
	content []byte
}

func (c Contents) files() []file {
	files := []file{
		{"etc/passwd", 0o644, []byte(passwd)},
		{"etc/group", 0o644, []byte(group)},
		{"tmp/", 0o1777, nil},
	}
	if len(c.Certificates) > 0 {
		files = append(files, file{certificates, 0o644, c.Certificates})
	}
	for _, p := range c.Programs {
		files = append(files, file{strings.TrimPrefix(path.Clean(p.Path), "/"), 0o755, p.Content})
	}
	return withParents(files)
}

// withParents adds the directories that the files are in, and orders all by
// name, parents first.
func withParents(files []file) []file {
	known := map[string]bool{}
	for _, f := range files {
		known[f.name] = true
	}
	for _, f := range files {
		for dir := path.Dir(strings.TrimSuffix(f.name, "/")); dir != "."; dir = path.Dir(dir) {
			if !known[dir+"/"] {
				known[dir+"/"] = true
				files = append(files, file{name: dir + "/", mode: 0o755})
			}
		}
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files
}

func (c Contents) archive() ([]byte, error) {
	var archive bytes.Buffer
	out := tar.NewWriter(&archive)
	for _, f := range c.files() {
		header := tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: epoch(), Format: tar.FormatPAX, Typeflag: tar.TypeReg}
		if strings.HasSuffix(f.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := out.WriteHeader(&header); err != nil {
			return nil, fmt.Errorf("adding '%s': %w", f.name, err)
		}
		if _, err := out.Write(f.content); err != nil {
			return nil, fmt.Errorf("adding '%s': %w", f.name, err)
		}
	}
	if err := out.Close(); err != nil {
		return nil, fmt.Errorf("ending the layer: %w", err)
	}
	return archive.Bytes(), nil
}

// architecture reads from the programs what machine they are for. It refuses
// programs that need files which the image does not have.
func architecture(programs []Program) (string, error) {
	found := ""
	for _, p := range programs {
		its, err := programArchitecture(p)
		if err != nil {
			return "", err
		}
		if found != "" && its != found {
			return "", fmt.Errorf("'%s' is for %s, '%s' for %s: an image must be for one architecture", programs[0].Path, found, p.Path, its)
		}
		found = its
	}
	return found, nil
}

func programArchitecture(p Program) (string, error) {
	program, err := elf.NewFile(bytes.NewReader(p.Content))
	if err != nil {
		return "", fmt.Errorf("the program for '%s' must be one for Linux: %w; build it with GOOS=linux", p.Path, err)
	}
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			return "", fmt.Errorf("the program for '%s' must be static, and wants a dynamic linker: build it with CGO_ENABLED=0", p.Path)
		}
	}
	switch program.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	default:
		return "", fmt.Errorf("the program for '%s' is for %s: must be for amd64 or arm64", p.Path, program.Machine)
	}
}
