package csi

import (
	"context"
	"log/slog"
	"net/url"
	"path/filepath"
	"testing"

	spec "github.com/container-storage-interface/spec/lib/go/csi"

	"berth.dev/berth/api/v1alpha1"
)

// constant answers with the same files, and knows their generation.
type constant map[string][]byte

func (c constant) Files(_ context.Context, _, generation string, _ url.Values) (*v1alpha1.Files, error) {
	if generation == "a" {
		return nil, nil //nolint:nilnil // nothing changed, and nothing is wrong
	}
	return &v1alpha1.Files{Generation: "a", Files: c}, nil
}

// BenchmarkPublish is a volume's life on tmpfs, of the files that a volume has and of one small file; and a republish of what did not change.
func BenchmarkPublish(b *testing.B) {
	if !mayMount(b) {
		b.Skip("needs root on Linux, to mount")
	}
	usual := constant{
		v1alpha1.FileBundle: make([]byte, 220<<10), v1alpha1.FileTrustStore: make([]byte, 190<<10), v1alpha1.FileCA: make([]byte, 2<<10),
		v1alpha1.FileCAOfProxy: make([]byte, 2<<10), v1alpha1.FileToken: make([]byte, 1<<10), v1alpha1.FileEnv: make([]byte, 4<<10),
		v1alpha1.FileHTTPProxy: nil, v1alpha1.FileHTTPSProxy: nil, "config.json": make([]byte, 2<<10), "buildkitd.toml": make([]byte, 200),
	}
	for name, files := range map[string]constant{"one file": {"constant": []byte("x")}, "usual": usual} {
		n := &testNode{target: filepath.Join(b.TempDir(), "mount")}
		p := NewPublisher("node-1", files, NewMounter(), slog.New(slog.DiscardHandler))
		publish := func() {
			if _, err := p.NodePublishVolume(b.Context(), n.request()); err != nil {
				b.Fatal(err)
			}
		}
		unpublish := func() {
			if _, err := p.NodeUnpublishVolume(b.Context(), &spec.NodeUnpublishVolumeRequest{VolumeId: "csi-1", TargetPath: n.target}); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				publish()
				unpublish()
			}
		})
		publish()
		b.Run(name+" again", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				publish()
			}
		})
		unpublish()
	}
}
