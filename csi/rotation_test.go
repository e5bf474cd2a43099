package csi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"

	"berth.dev/berth/api/v1alpha1"
)

// byToken answers each token with files that are full of it, and one that is always the same.
type byToken struct{}

func (byToken) Files(_ context.Context, token, generation string, _ url.Values) (*v1alpha1.Files, error) {
	if token == generation {
		return nil, nil //nolint:nilnil // nothing changed, and nothing is wrong
	}
	full := []byte(strings.Repeat(token, wordsOfFile))
	return &v1alpha1.Files{Generation: token, Files: map[string][]byte{
		v1alpha1.FileToken: []byte(token), "config.json": full, v1alpha1.FileEnv: full, v1alpha1.FileBundle: []byte("same"),
	}}, nil
}

const (
	wordsOfFile = 4096
	// readingEvery is how often the reader reads all files, and readings how often it does between two republishes.
	readingEvery = 10 * time.Millisecond
	readings     = 10
	republishes  = 20
)

// TestTokenRotation: kubelet brings a new token twenty times over the plugin's socket, while a reader reads all files
// through the mount a hundred times a second: each is there, and whole, each time.
func TestTokenRotation(t *testing.T) {
	t.Parallel()
	if !mayMount(t) {
		t.Skip("SKIPPED: needs root on Linux, to mount")
	}
	dir, err := os.MkdirTemp("", "berth") //nolint:usetesting // a socket's path may not be long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p, _ := startIn(t, dir, byToken{}, NewMounter())
	kubelet := spec.NewNodeClient(dialSocket(t, p.socket()))
	n := &testNode{target: filepath.Join(dir, "pods", "app", "mount")}
	t.Cleanup(func() { _ = NewMounter().Unmount(n.target) })
	publish := func(token string) {
		t.Helper()
		_, err := kubelet.NodePublishVolume(t.Context(), n.request(func(r *spec.NodePublishVolumeRequest) { r.Secrets[keyTokens] = tokens(token) }))
		if err != nil {
			t.Fatal(err)
		}
	}
	publish("token-00")
	read := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go readEvery(ctx, n.target, read)
	stop, looked := make(chan struct{}), make(chan error, 1)
	go func() { looked <- look(stop, filepath.Join(n.target, v1alpha1.FileToken), new(atomic.Int64)) }() // who only looks finds the shortest of gaps
	for i := 1; i <= republishes; i++ {
		token := fmt.Sprintf("token-%02d", i)
		publish(token)
		for range readings {
			if err := <-read; err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(filepath.Join(n.target, v1alpha1.FileToken)); err != nil || string(have) != token {
			t.Fatalf("the token is '%s', %v, must be '%s'", have, err, token)
		}
	}
	cancel()
	close(stop)
	if err := <-looked; err != nil {
		t.Error(err)
	}
	if _, err := kubelet.NodeUnpublishVolume(t.Context(), &spec.NodeUnpublishVolumeRequest{VolumeId: "csi-1", TargetPath: n.target}); err != nil {
		t.Error(err)
	}
}

// readEvery reads all files again and again, and tells what each time came out.
func readEvery(ctx context.Context, target string, read chan<- error) {
	ticks := time.NewTicker(readingEvery)
	defer ticks.Stop()
	for {
		err := readWhole(target)
		select {
		case read <- err:
		case <-ctx.Done():
			return
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}

// readWhole fails where a file is not there, or not of one token.
func readWhole(target string) error {
	for _, name := range []string{v1alpha1.FileToken, "config.json", v1alpha1.FileEnv, v1alpha1.FileBundle} {
		content, err := os.ReadFile(filepath.Join(target, name))
		const word = len("token-00")
		want := wordsOfFile
		switch {
		case err != nil:
			return err
		case name == v1alpha1.FileBundle:
			if string(content) != "same" {
				return fmt.Errorf("'%s' holds '%s'", name, content)
			}
			continue
		case name == v1alpha1.FileToken:
			want = 1
		}
		if len(content) != want*word || bytes.Count(content, content[:word]) != want {
			return errors.New("'" + name + "' is torn")
		}
	}
	return nil
}
