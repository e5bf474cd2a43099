package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Hash is the name of a component's inputs: equal inputs, equal hash. The
// sources are read below root.
func Hash(c Component, root, goVersion string) (string, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q %q %q %q %t %q\n", goVersion, c.Packages, c.Dir, c.Tags, c.LDFlags, c.CGO, c.Links)
	for _, source := range c.sources() {
		if err := hashTree(sum, root, source); err != nil {
			return "", fmt.Errorf("hashing the sources of %s: %w", c.Name, err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

func (c Component) sources() []string {
	if c.Dir == "" || len(c.Sources) > 0 {
		return c.Sources
	}
	return []string{c.Dir}
}

// hashTree adds each file below root/dir, in the order of their names.
func hashTree(sum io.Writer, root, dir string) error {
	return filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(sum, "%s %d\n%s\n", filepath.ToSlash(name), len(content), content)
		return err
	})
}
