package images

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// random is a layer with one file of random bytes, made anew from its seed
// each time it is read, and not compressed: a layer of a gigabyte needs
// neither memory nor disk. No two are equal, so that registries and runtimes
// cannot know one already.
type random struct {
	seed   [32]byte
	size   int64
	digest v1.Hash
}

// Random makes a layer of the given number of bytes.
func Random(size int64) (v1.Layer, error) {
	layer := &random{size: size}
	if _, err := rand.Read(layer.seed[:]); err != nil {
		return nil, fmt.Errorf("making the seed of a layer: %w", err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, layer.open()); err != nil {
		return nil, fmt.Errorf("hashing a layer of %d bytes: %w", size, err)
	}
	layer.digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	return layer, nil
}

// open reads the layer: a tar with one file named after the seed.
func (r *random) open() io.Reader {
	header, padding := r.frame()
	content := io.LimitReader(mathrand.NewChaCha8(r.seed), r.size)
	return io.MultiReader(bytes.NewReader(header), content, bytes.NewReader(padding))
}

// frame is what a tar has before and after the content of its only file.
func (r *random) frame() (header, padding []byte) {
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	name := "random-" + hex.EncodeToString(r.seed[:4])
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: r.size}); err != nil {
		panic(err) // a constant header into memory
	}
	const block = 512
	return out.Bytes(), make([]byte, (block-r.size%block)%block+2*block)
}

func (r *random) Digest() (v1.Hash, error)             { return r.digest, nil }
func (r *random) DiffID() (v1.Hash, error)             { return r.digest, nil }
func (r *random) Compressed() (io.ReadCloser, error)   { return io.NopCloser(r.open()), nil }
func (r *random) Uncompressed() (io.ReadCloser, error) { return io.NopCloser(r.open()), nil }
func (r *random) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }
func (r *random) Size() (int64, error) {
	header, padding := r.frame()
	return int64(len(header)) + r.size + int64(len(padding)), nil
}

// ParseSize reads sizes such as 500MiB, 4KiB, 1GiB or 1024.
func ParseSize(s string) (int64, error) {
	number, unit := s, int64(1)
	for suffix, factor := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if rest, has := strings.CutSuffix(s, suffix); has {
			number, unit = rest, factor
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("'%s' must be a size such as 500MiB, 4KiB, 1GiB or a number of bytes", s)
	}
	return n * unit, nil
}
