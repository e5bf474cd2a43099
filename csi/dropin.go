package csi

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
)

// dropInFile is read after what an administrator names '00-', and before '99-'.
const dropInFile = "50-berth.conf"

// DropIn is a file in CRI-O's registries.conf.d. It says of each connector's host
// that it is that host itself, over TLS: the longest prefix wins, so that no
// mirror and no `insecure` for '*.svc.cluster.local' gets the tokens of Pods.
//
// It does not lead elsewhere: for a `location` of another host the library drops
// the Pod's pull secret.
type DropIn struct {
	root *os.Root
	path string // of the folder, on the node
}

// NewDropIn returns the drop-in in a registries.conf.d.
func NewDropIn(host *os.Root, dir string) (*DropIn, error) {
	root, err := openFolder(host, dir)
	if err != nil {
		return nil, fmt.Errorf("open the runtime's folder '%s': %w", dir, err)
	}
	return &DropIn{root: root, path: dir}, nil
}

// Sync brings the file to speak of exactly these hosts; without any there is no file.
func (d *DropIn) Sync(hosts map[string]bool) error {
	have, err := readOwn(d.root, dropInFile)
	if foreign := (*foreignError)(nil); errors.As(err, &foreign) {
		return &foreignError{path: path.Join(d.path, dropInFile)}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	want := registries(hosts)
	switch {
	case len(hosts) == 0:
		err = removeOwn(d.root, dropInFile)
	case !bytes.Equal(have, want):
		err = replace(d.root, dropInFile, want)
	default:
		return nil
	}
	if err != nil {
		return fmt.Errorf("write '%s': %w", path.Join(d.path, dropInFile), err)
	}
	return nil
}

// registries is the content of the file.
func registries(hosts map[string]bool) []byte {
	var b bytes.Buffer
	b.WriteString(mark)
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		fmt.Fprintf(&b, "\n[[registry]]\nprefix = %[1]q\nlocation = %[1]q\ninsecure = false\nblocked = false\n", host)
	}
	return b.Bytes()
}
