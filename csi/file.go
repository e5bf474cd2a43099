package csi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

const (
	// mark is the first line of every file of ours: what does not begin so is somebody else's.
	mark = "# Written by Berth. Changes are overwritten; it goes with its Connector.\n"

	// fresh, after a file's name, is where it is written before it takes its place.
	fresh = ".new"

	dirMode  = 0o755
	fileMode = 0o644

	// mostRead is more than any file that is read has.
	mostRead = 16 << 20
)

// foreignError is about something in the place of a file of ours that Berth did not write.
type foreignError struct{ path string }

func (e *foreignError) Error() string {
	return fmt.Sprintf("'%s' was not written by Berth and is left alone; remove it, so that pulls through the Connector work on this node", e.path)
}

// errNotRegular: a pipe, a device, a link or a folder is in the place of a file.
var errNotRegular = errors.New("it is not a regular file")

// open opens a regular file, and nothing else: no link is followed, and no pipe waited for.
func open(root *os.Root, name string, flag int) (*os.File, error) {
	before, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, errNotRegular
	}
	file, err := root.OpenFile(name, flag|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if now, err := file.Stat(); err != nil || !os.SameFile(before, now) {
		return nil, errors.Join(errNotRegular, err, file.Close())
	}
	return file, nil
}

// readFile reads a regular file.
func readFile(root *os.Root, name string) ([]byte, error) {
	file, err := open(root, name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	content, err := readAll(file)
	return content, errors.Join(err, file.Close())
}

func readAll(file io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(file, mostRead+1))
	if err == nil && len(content) > mostRead {
		err = fmt.Errorf("it has more than %d bytes", mostRead)
	}
	return content, err
}

// readOwn reads a file of ours; one that somebody else wrote is a foreignError.
// An empty one is no use to anybody, and is what a power cut leaves of ours.
func readOwn(root *os.Root, name string) ([]byte, error) {
	content, err := readFile(root, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil || len(content) > 0 && !bytes.HasPrefix(content, []byte(mark)):
		return nil, &foreignError{path: path.Join(root.Name(), name)}
	}
	return content, nil
}

// replace writes a file so that a reader finds it whole, old or new. What stands
// there before must be ours.
func replace(root *os.Root, name string, content []byte) error {
	next := name + fresh
	if err := root.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := root.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Close()); err == nil {
		err = root.Rename(next, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(next))
	}
	return nil
}

// removeOwn removes a file of ours, and what a crash may have left of its successor.
func removeOwn(root *os.Root, name string) error {
	if err := root.Remove(name + fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := readOwn(root, name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return root.Remove(name)
}

// openFolder opens a folder of the node, and makes it where it is not there.
func openFolder(host *os.Root, dir string) (*os.Root, error) {
	name := within(dir)
	if err := host.MkdirAll(name, dirMode); err != nil {
		return nil, err
	}
	return host.OpenRoot(name)
}

// within is a path of the node as it is called below its root.
func within(name string) string {
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); name == "" {
		return "."
	}
	return name
}
