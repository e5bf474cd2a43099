// Command image makes a container image of static programs, without Docker:
//
//	image -bin bin/berth -ref berth.dev/berth:dev -tar bin/berth.tar
//
// The same programs give the same digest, which it prints.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"berth.dev/berth/tools/image/pack"
)

// arguments are what the flags say.
type arguments struct {
	programs     list
	labels       list
	entrypoint   string
	ref          string
	user         string
	certificates string
	base         string
	layout       string
	tar          string
}

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

func main() {
	digest, err := run(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

func run(args []string) (v1.Hash, error) {
	a, err := parse(args)
	if err != nil {
		return v1.Hash{}, err
	}
	contents, err := a.contents()
	if err != nil {
		return v1.Hash{}, err
	}
	image, err := pack.Image(contents)
	if err != nil {
		return v1.Hash{}, err
	}
	if a.layout != "" {
		if err := pack.WriteLayout(a.layout, a.ref, image); err != nil {
			return v1.Hash{}, err
		}
	}
	if a.tar != "" {
		if err := pack.WriteTar(a.tar, a.ref, image); err != nil {
			return v1.Hash{}, err
		}
	}
	return image.Digest()
}

func parse(args []string) (arguments, error) {
	var a arguments
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.Var(&a.programs, "bin", "`path` of a static program; may be repeated, the first is the entrypoint")
	flags.Var(&a.labels, "label", "`key=value` to label the image with; may be repeated")
	flags.StringVar(&a.entrypoint, "entrypoint", "", "`path` of the first program in the image (its own name, below /)")
	flags.StringVar(&a.ref, "ref", "", "`name` of the image, with its registry and tag")
	flags.StringVar(&a.user, "user", "65532:65532", "`uid:gid` that the image runs as")
	flags.StringVar(&a.certificates, "ca-certificates", "", "`file` with the PEM bundle of CAs that the image trusts (none)")
	flags.StringVar(&a.base, "base", "", "`tar` of a root file system that the programs are put upon (none)")
	flags.StringVar(&a.layout, "layout", "", "`directory` to write an OCI layout to")
	flags.StringVar(&a.tar, "tar", "", "`file` to write the OCI layout to as a tar, for ctr images import")
	if err := flags.Parse(args); err != nil {
		return a, flag.ErrHelp // said already
	}
	if len(a.programs) == 0 || a.layout == "" && a.tar == "" {
		return a, errors.New("want -bin with a program, and -layout or -tar with where to write the image; see -help")
	}
	if _, err := name.NewTag(a.ref, name.StrictValidation); err != nil {
		return a, fmt.Errorf("-ref must be a whole name such as berth.dev/berth:dev: %w", err)
	}
	return a, nil
}

// contents reads the files that the flags name.
func (a arguments) contents() (pack.Contents, error) {
	contents := pack.Contents{User: a.user, Labels: map[string]string{}, Base: a.base}
	for n, file := range a.programs {
		content, err := os.ReadFile(file)
		if err != nil {
			return contents, fmt.Errorf("reading a program: %w", err)
		}
		inside := "/" + filepath.Base(file)
		if n == 0 && a.entrypoint != "" {
			inside = path.Join("/", a.entrypoint)
		}
		contents.Programs = append(contents.Programs, pack.Program{Path: inside, Content: content})
	}
	for _, label := range a.labels {
		key, value, has := strings.Cut(label, "=")
		if !has {
			return contents, fmt.Errorf("-label '%s' must be key=value", label)
		}
		contents.Labels[key] = value
	}
	if a.certificates == "" {
		return contents, nil
	}
	bundle, err := os.ReadFile(a.certificates)
	if err != nil {
		return contents, fmt.Errorf("reading the CAs that the image trusts: %w", err)
	}
	contents.Certificates = bundle
	return contents, nil
}
