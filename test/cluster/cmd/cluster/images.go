package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"berth.dev/berth/test/cluster/harbor"
	"berth.dev/berth/test/cluster/images"
	"berth.dev/berth/test/cluster/lifecycle"
)

func noFlags(*flag.FlagSet) {}

func (o *options) noArguments(name string, args []string) error {
	rest, err := o.parse(name, args, noFlags)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %s takes no '%s'", errUsage, name, rest[0])
	}
	return err
}

// runImage loads an image as an administrator would, with ctr.
func runImage(_ context.Context, o *options, args []string) (int, error) {
	args, err := o.parse("image", args, noFlags)
	if err != nil {
		return 2, err
	}
	if len(args) != 2 || args[0] != "load" {
		return 2, fmt.Errorf("%w: want `image load FILE`", errUsage)
	}
	return lifecycle.Exec(o.state, []string{"ctr", "--namespace", "k8s.io", "images", "import", args[1]})
}

func runHarbor(ctx context.Context, o *options, args []string) (int, error) {
	args, err := o.parse("harbor", args, noFlags)
	if err != nil {
		return 2, err
	}
	switch {
	case len(args) == 1 && args[0] == "stop":
		return o.harborControl(ctx, args[0])
	case len(args) == 1 && args[0] == "start":
		return o.harborControl(ctx, args[0])
	case len(args) == 2 && args[0] == "passwd":
		return o.harborPassword(args[1])
	case len(args) >= 2 && args[0] == "push":
		return o.harborPush(ctx, args[1:])
	}
	return 2, fmt.Errorf("%w: want `harbor stop`, `harbor start`, `harbor passwd PASSWORD` or `harbor push NAME[:TAG]`", errUsage)
}

func (o *options) harborControl(ctx context.Context, verb string) (int, error) {
	control, err := lifecycle.Control(o.state)
	if err != nil {
		return 1, err
	}
	if verb == "stop" {
		return 0, control.StopHarbor(ctx)
	}
	return 0, control.StartHarbor(ctx)
}

func (o *options) harborPassword(password string) (int, error) {
	if _, err := lifecycle.Control(o.state); err != nil {
		return 1, err
	}
	return 0, harbor.SetPassword(o.state, password)
}

// harborPush runs itself again inside the node: only there is the upstream to
// be reached and its CA trusted.
func (o *options) harborPush(ctx context.Context, args []string) (int, error) {
	name, size, err := o.parsePush(args)
	if err != nil {
		return 2, err
	}
	if !lifecycle.Inside() {
		program, err := os.Executable()
		if err != nil {
			return 1, fmt.Errorf("finding this program: %w", err)
		}
		return lifecycle.Exec(o.state, []string{program, "--state", string(o.state), "harbor", "push", "--size", size, name})
	}
	ref, err := harbor.Reference(name)
	if err != nil {
		return 2, err
	}
	image, err := o.workload(size)
	if err != nil {
		return 1, err
	}
	credential, err := harbor.Read(o.state)
	if err != nil {
		return 1, err
	}
	digest, err := harbor.Push(ctx, ref, image, credential)
	if err != nil {
		return 1, err
	}
	fmt.Fprintln(o.out, digest)
	return 0, nil
}

// parsePush takes the flag before or after the name.
func (o *options) parsePush(args []string) (name, size string, err error) {
	size = "4KiB"
	flags := func(set *flag.FlagSet) { set.StringVar(&size, "size", size, "") }
	if args, err = o.parse("harbor push", args, flags); err != nil {
		return "", "", err
	}
	if len(args) == 0 {
		return "", "", fmt.Errorf("%w: harbor push wants a name such as team/app:v1", errUsage)
	}
	name = args[0]
	if args, err = o.parse("harbor push", args[1:], flags); err == nil && len(args) > 0 {
		err = fmt.Errorf("%w: harbor push takes one name, not '%s' too", errUsage, args[0])
	}
	return name, size, err
}

// workload is the test program with a random layer on top, unlike any image
// that was pushed before.
func (o *options) workload(size string) (v1.Image, error) {
	bytes, err := images.ParseSize(size)
	if err != nil {
		return nil, err
	}
	salt, err := images.Random(bytes)
	if err != nil {
		return nil, err
	}
	program, err := lifecycle.Program(o.state, "testapp")
	if err != nil {
		return nil, err
	}
	return images.App(program, salt)
}
