// Package crio holds the tests of what `berth node` writes for CRI-O, read by the
// library with which CRI-O finds registries and pulls from them. The files are the
// goldens of package csi. It is a module of its own, since that library brings much.
package crio
