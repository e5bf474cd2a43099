package static

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/access"
	"berth.dev/berth/manifest"
	"berth.dev/berth/token"
)

const (
	// lookAgain is how often a directory is looked at. It is compared by content: editors rename, kubelet turns
	// links, network file systems tell nothing, and no watch of a file sees all of that.
	lookAgain = 250 * time.Millisecond
	// mostFiles bounds a directory.
	mostFiles = 10_000
)

func (f Files) names() []string { return slices.Sorted(maps.Keys(f)) }

func (f Files) equal(o Files) bool { return maps.EqualFunc(f, o, equalBytes) }

// Directory is a directory of manifests, as it was last read well. Make it by Open.
type Directory struct {
	path   string
	reader Reader
	log    *slog.Logger

	current    atomic.Pointer[State]
	catalogue  access.Catalogue
	generation uint64
	taken      Files // those of the last attempt, well or not
	lastError  string
}

// Open reads a directory.
func Open(path string, reader Reader, log *slog.Logger) (*Directory, error) {
	d := &Directory{path: path, reader: reader, log: log}
	files, err := d.files()
	if err != nil {
		return nil, err
	}
	return d, d.take(files, func(*access.Connector) {})
}

// State returns what the directory said when it was last read well.
func (d *Directory) State() *State { return d.current.Load() }

// Catalogue holds the Connectors. It follows the directory.
func (d *Directory) Catalogue() *access.Catalogue { return &d.catalogue }

// Get returns a Secret of the State as it is now.
func (d *Directory) Get(ctx context.Context, name types.NamespacedName) (*corev1.Secret, error) {
	return d.State().Get(ctx, name)
}

// Keys returns the keys that verify tokens now.
func (d *Directory) Keys() *token.PublicKeys { return d.State().Keys }

// Start follows the directory until the context ends, and calls gone with each Connector that no longer is. What
// is wrong changes nothing, and is logged once.
func (d *Directory) Start(ctx context.Context, gone func(*access.Connector)) error {
	ticks := time.NewTicker(lookAgain)
	defer ticks.Stop()
	seen := d.taken
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		files, err := d.files()
		if err == nil && files.equal(seen) {
			err = d.follow(files, gone)
		}
		seen = files
		d.tell(err)
	}
}

// follow takes over files that changed. They were the same at two looks, so nobody is in the middle of writing them.
func (d *Directory) follow(files Files, gone func(*access.Connector)) error {
	if files.equal(d.taken) {
		return nil
	}
	if err := d.take(files, gone); err != nil {
		return err
	}
	d.log.Info("read the manifests again", "directory", d.path)
	return nil
}

// take reads files, and makes what they say the state.
func (d *Directory) take(files Files, gone func(*access.Connector)) error {
	d.taken = files
	now, err := d.reader.Read(files)
	if err != nil {
		return err
	}
	before := d.State()
	d.generation++
	d.lastError = ""
	now.succeed(before, d.generation)
	d.current.Store(now)
	for _, c := range now.Connectors {
		d.catalogue.Put(c)
	}
	for _, class := range now.classes {
		d.catalogue.PutClass(class)
	}
	if before == nil {
		return nil
	}
	for name := range before.Classes {
		if _, still := now.Classes[name]; !still {
			d.catalogue.DeleteClass(name)
		}
	}
	for name, c := range before.Connectors {
		successor, still := now.Connectors[name]
		if !still {
			d.catalogue.Delete(name)
		}
		if !still || successor.UID != c.UID {
			gone(c)
		}
	}
	return nil
}

// tell logs an error, unless it is the one that was logged last.
func (d *Directory) tell(err error) {
	if err == nil {
		return
	}
	if err.Error() != d.lastError {
		d.log.Error("go on with the manifests from before", "directory", d.path, "error", err.Error())
	}
	d.lastError = err.Error()
}

// files reads the manifests in the directory, not those below it.
func (d *Directory) files() (Files, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("read the directory of manifests: %w", err)
	}
	files := Files{}
	for _, entry := range entries {
		name := filepath.Join(d.path, entry.Name())
		if !isManifest(name) {
			continue
		}
		content, err := read(name)
		if err != nil {
			return nil, err
		}
		if content != nil {
			files[name] = content
		}
	}
	if len(files) > mostFiles {
		return nil, fmt.Errorf("directory '%s' has %d manifests, and may have %d", d.path, len(files), mostFiles)
	}
	return files, nil
}

func isManifest(name string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) && filepath.Base(name)[0] != '.'
}

// read returns the content of a file; nil for a directory.
func read(name string) ([]byte, error) {
	stat, err := os.Stat(name) // of what a link leads to
	if err != nil {
		return nil, fmt.Errorf("read a manifest: %w", err)
	}
	if !stat.Mode().IsRegular() {
		return nil, nil
	}
	file, err := os.Open(name) //nolint:gosec // the administrator names the directory
	if err != nil {
		return nil, fmt.Errorf("read a manifest: %w", err)
	}
	content, err := io.ReadAll(io.LimitReader(file, manifest.MaxStream+1))
	return content, errors.Join(err, file.Close())
}
