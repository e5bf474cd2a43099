package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"berth.dev/berth/manifest"
)

const standardInput = "-"

// input is a stream of manifests and the name it goes by.
type input struct {
	*manifest.Stream

	name string
}

// readStreams reads files, folders and standard input, in order.
func readStreams(names []string, stdin io.Reader) ([]input, error) {
	if len(names)-len(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == standardInput })) > 1 {
		return nil, errors.New("'-' stands twice, and standard input can be read once")
	}
	var inputs []input
	for _, name := range names {
		files, err := filesOf(name)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			in, err := readStream(file, stdin)
			if err != nil {
				return nil, err
			}
			inputs = append(inputs, in)
		}
	}
	return inputs, nil
}

// filesOf returns the manifests in a folder, sorted, or the file itself.
func filesOf(name string) ([]string, error) {
	if name == standardInput {
		return []string{name}, nil
	}
	stat, err := os.Stat(name)
	if err != nil {
		return nil, notRead(name, err)
	}
	if !stat.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, notRead(name, err)
	}
	var files []string
	for _, entry := range entries {
		if isManifest(entry) {
			files = append(files, filepath.Join(name, entry.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("the folder '%s' holds no file that ends in .yaml, .yml or .json", name)
	}
	return files, nil
}

func isManifest(entry fs.DirEntry) bool {
	return !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(entry.Name()))
}

func readStream(name string, stdin io.Reader) (input, error) {
	from, shown := stdin, "<stdin>"
	if name != standardInput {
		file, err := os.Open(name) //nolint:gosec // the user names it
		if err != nil {
			return input{}, notRead(name, err)
		}
		defer file.Close() //nolint:errcheck // nothing was written
		from, shown = file, name
	}
	content, err := io.ReadAll(io.LimitReader(from, manifest.MaxStream+1))
	if err != nil {
		return input{}, notRead(shown, err)
	}
	stream, err := manifest.Parse(shown, content)
	return input{stream, shown}, err
}

func notRead(name string, err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	return fmt.Errorf("cannot read '%s': %w", name, err)
}

// surroundings gathers what the rewrite asks about. What is nearer to the
// manifests comes later and so takes the place of what the cluster says.
func (o *rewriteOptions) surroundings(ctx context.Context, inputs []input, stdin io.Reader) (*manifest.Surroundings, error) {
	around := manifest.NewSurroundings(o.namespace)
	if o.cluster.asked() {
		if err := o.cluster.addTo(ctx, around, inputs); err != nil {
			return nil, err
		}
	}
	names := slices.Clone(o.connectors)
	if o.namespaceFile != "" {
		names = append(names, o.namespaceFile)
	}
	if slices.Contains(names, standardInput) && slices.Contains(o.files, standardInput) {
		return nil, errors.New("'-' stands twice, and standard input can be read once")
	}
	described, err := readStreams(names, stdin)
	if err != nil {
		return nil, err
	}
	for _, in := range slices.Concat(described, inputs) {
		if err := around.AddStream(in.Stream); err != nil {
			return nil, err
		}
	}
	return around, nil
}
