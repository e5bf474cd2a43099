package images

import (
	"archive/tar"
	"io"
	"testing"
)

func TestRandomLayer(t *testing.T) {
	const size = 100_000
	layer, err := Random(size)
	if err != nil {
		t.Fatal(err)
	}
	content, err := layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(content)
	if err != nil {
		t.Fatal(err)
	}
	if told, err := layer.Size(); err != nil || told != int64(len(all)) {
		t.Errorf("size %d, %v; read %d", told, err, len(all))
	}
	content, err = layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	header, err := tar.NewReader(content).Next()
	if err != nil || header.Size != size {
		t.Errorf("the tar holds %+v, %v", header, err)
	}
	other, err := Random(size)
	if err != nil {
		t.Fatal(err)
	}
	one, _ := layer.Digest()
	if two, _ := other.Digest(); one == two {
		t.Error("two layers are the same")
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"500MiB": 500 << 20, "4KiB": 4096, "1GiB": 1 << 30, "17": 17, "-1": -1, "5MB": -1, "": -1} {
		got, err := ParseSize(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
}
