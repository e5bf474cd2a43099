package csi

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

const (
	// current is the link to the folder of the files as they are, which is named by their generation.
	current = "..data"
	// generationPrefix begins the names of such folders.
	generationPrefix = "..generation-"
	// putsAtOnce is how many files are written at a time: half of the time of a publish goes into that.
	putsAtOnce = 4
	// hidden begins the names of what is not for readers.
	hidden = ".."
)

// volume is the folder of a published volume. Readers find
//
//	config.json               → ..data/config.json
//	..data                    → ..generation-5f1c
//	..generation-5f1c/config.json
//
// and `..data` changes in one step, so that whoever opens a file finds it whole,
// old or new. The generation before stays until the next comes, for who is just
// on the way into it; files that did not change are the same inode in both.
type volume struct {
	root *os.Root
	// group may read; negative: everybody may.
	group int
}

// openVolume opens the folder of a volume.
func openVolume(target string, group int) (*volume, error) {
	root, err := os.OpenRoot(target)
	if err != nil {
		return nil, fmt.Errorf("open the volume: %w", err)
	}
	return &volume{root: root, group: group}, nil
}

// generation returns that of the files; empty: there are none.
func (v *volume) generation() string {
	link, err := v.root.Readlink(current)
	if err != nil {
		return ""
	}
	generation, _ := strings.CutPrefix(link, generationPrefix)
	return generation
}

// write brings the volume to hold just these files. Until it is done, readers
// have the files from before; where it fails, they keep them. Turning `..data` is
// the last that readers need: a volume that says to be of a generation is whole.
func (v *volume) write(generation string, files map[string][]byte) error {
	if err := check(generation, files); err != nil {
		return err
	}
	before := v.generation()
	if before != generation {
		if err := v.fill(generation, before, files); err != nil {
			return errors.Join(err, v.root.RemoveAll(generationPrefix+generation))
		}
	}
	if err := v.show(files); err != nil {
		return err
	}
	if err := v.turn(current, generationPrefix+generation); err != nil {
		return err
	}
	return v.sweep(files, generation, before)
}

// check refuses names that would lead elsewhere.
func check(generation string, files map[string][]byte) error {
	for _, name := range append(slices.Collect(maps.Keys(files)), generation) {
		if name == "" || name == "." || strings.HasPrefix(name, hidden) || strings.ContainsAny(name, "/\\\x00") {
			return fmt.Errorf("the proxy sent a file of the name %q, which may not be", name)
		}
	}
	return nil
}

// fill writes the files into a folder of their own.
func (v *volume) fill(generation, before string, files map[string][]byte) error {
	folder := generationPrefix + generation
	if err := v.root.RemoveAll(folder); err != nil { // what a crash left
		return err
	}
	if err := v.root.Mkdir(folder, 0o700); err != nil {
		return err
	}
	inside, err := v.root.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { _ = inside.Close() }()
	var puts errgroup.Group
	puts.SetLimit(putsAtOnce)
	for _, name := range largestFirst(files) {
		content := files[name]
		puts.Go(func() error {
			if before != "" && v.same(path.Join(generationPrefix+before, name), content) &&
				v.root.Link(path.Join(generationPrefix+before, name), path.Join(folder, name)) == nil {
				return nil
			}
			return v.put(inside, name, content)
		})
	}
	if err := puts.Wait(); err != nil {
		return err
	}
	return v.permit(folder)
}

// largestFirst returns the names of the files, so that the last to be written are small.
func largestFirst(files map[string][]byte) []string {
	return slices.SortedFunc(maps.Keys(files), func(a, b string) int {
		return cmp.Or(len(files[b])-len(files[a]), strings.Compare(a, b))
	})
}

// put writes a file that is not there yet.
func (v *volume) put(folder *os.Root, name string, content []byte) error {
	f, err := folder.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil && v.group >= 0 {
		err = f.Chown(-1, v.group)
	}
	if err == nil {
		err = f.Chmod(v.mode(0o440, 0o444))
	}
	return errors.Join(err, f.Close())
}

func (v *volume) same(name string, content []byte) bool {
	have, err := v.root.ReadFile(name)
	return err == nil && bytes.Equal(have, content)
}

// mode is for the volume's group, or for everybody where there is none.
func (v *volume) mode(ofGroup, ofAll fs.FileMode) fs.FileMode {
	if v.group < 0 {
		return ofAll
	}
	return ofGroup
}

// permit lets those read a folder who may read the volume.
func (v *volume) permit(folder string) error {
	if v.group >= 0 {
		if err := v.root.Chown(folder, -1, v.group); err != nil {
			return err
		}
	}
	return v.root.Chmod(folder, v.mode(0o750, 0o755))
}

// turn makes a link, or leads it elsewhere, in one step.
func (v *volume) turn(link, target string) error {
	if err := v.root.Symlink(target, link); !errors.Is(err, fs.ErrExist) {
		return err
	}
	if have, err := v.root.Readlink(link); err == nil && have == target {
		return nil
	}
	beside := hidden + link + fresh
	if err := v.root.RemoveAll(beside); err != nil {
		return err
	}
	if err := v.root.Symlink(target, beside); err != nil {
		return err
	}
	return v.root.Rename(beside, link)
}

// show lets readers find the files, once `..data` leads to them.
func (v *volume) show(files map[string][]byte) error {
	for name := range files {
		if err := v.turn(name, path.Join(current, name)); err != nil {
			return err
		}
	}
	return v.permit(".")
}

// sweep removes what is no more: files that went, generations before the last, and what a crash left.
func (v *volume) sweep(files map[string][]byte, generations ...string) error {
	entries, err := fs.ReadDir(v.root.FS(), ".")
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		name := entry.Name()
		_, wanted := files[name]
		generation, ofOurs := strings.CutPrefix(name, generationPrefix)
		if wanted || name == current || ofOurs && slices.Contains(generations, generation) {
			continue
		}
		errs = append(errs, v.root.RemoveAll(name))
	}
	return errors.Join(errs...)
}

// Close ends the use of the volume.
func (v *volume) Close() error { return v.root.Close() }
