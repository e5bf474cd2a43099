package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Builder builds components into a cache.
type Builder struct {
	Root  string // the repository
	Cache string // one directory for each component and hash
	Jobs  string // how many compilers at once; empty: as many as CPUs
	Say   *Progress
}

// FindRoot walks up from dir to the root of the repository.
func FindRoot(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "test", "cluster", "kube", "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no test/cluster/kube/go.mod in '%s' or above it: run this inside the repository, or say where it is with --source", dir)
		}
	}
}

// CacheDir is where components are kept for this user.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory: %w; set XDG_CACHE_HOME", err)
	}
	return filepath.Join(dir, "berth", "cluster"), nil
}

// Installed says where the programs of each component are, by its name.
type Installed map[string]string

// Program is the path of a component's program.
func (i Installed) Program(component, program string) string {
	return filepath.Join(i[component], program)
}

// Path is a PATH with the programs of all components before the system's.
func (i Installed) Path() string {
	var dirs []string
	for _, c := range Components() {
		if c.Name != "testapp" {
			dirs = append(dirs, i[c.Name])
		}
	}
	return strings.Join(append(dirs, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"), ":")
}

// All builds what the cache does not hold and says where everything is.
func (b Builder) All(ctx context.Context, components []Component) (Installed, error) {
	goVersion, err := goVersion(ctx)
	if err != nil {
		return nil, err
	}
	installed := Installed{}
	for n, c := range components {
		hash, err := Hash(c, b.Root, goVersion)
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(b.Cache, c.Name+"-"+hash)
		installed[c.Name] = dir
		step := Step{Number: n + 1, Of: len(components), Component: c}
		if _, err := os.Stat(dir); err == nil {
			b.Say.Cached(step)
			continue
		}
		if err := b.build(ctx, c, dir, step); err != nil {
			return nil, err
		}
	}
	return installed, nil
}

func (b Builder) build(ctx context.Context, c Component, dir string, step Step) error {
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return fmt.Errorf("making the cache directory: %w", err)
	}
	unfinished, err := os.MkdirTemp(b.Cache, "."+c.Name+"-")
	if err != nil {
		return fmt.Errorf("making a directory to build %s in: %w", c.Name, err)
	}
	defer os.RemoveAll(unfinished)
	done := b.Say.Building(step)
	err = b.compile(ctx, c, unfinished)
	done(err)
	if err != nil {
		return err
	}
	if err := os.Chmod(unfinished, 0o755); err != nil {
		return fmt.Errorf("finishing %s: %w", c.Name, err)
	}
	if err := os.Rename(unfinished, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keeping %s in the cache: %w", c.Name, err)
	}
	return nil
}

func (b Builder) compile(ctx context.Context, c Component, into string) error {
	for _, pkg := range c.Packages {
		cmd := exec.CommandContext(ctx, "go", b.arguments(c, pkg, into)...)
		cmd.Dir = filepath.Join(b.Root, c.Dir)
		cmd.Env = append(os.Environ(), "GOBIN="+into, "GOWORK=off", "CGO_ENABLED="+map[bool]string{true: "1", false: "0"}[c.CGO])
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: go %s: %w\n%s", c.Name, strings.Join(cmd.Args[1:], " "), err, tail(output))
		}
	}
	for _, name := range c.Links {
		if err := os.Symlink("hyper", filepath.Join(into, name)); err != nil {
			return fmt.Errorf("naming %s: %w", name, err)
		}
	}
	return nil
}

func (b Builder) arguments(c Component, pkg, into string) []string {
	args := []string{"build", "-o", filepath.Join(into, c.program())}
	if c.Dir == "" {
		args = []string{"install"}
	}
	if b.Jobs != "" {
		args = append(args, "-p="+b.Jobs)
	}
	args = append(args, "-buildvcs=false", "-trimpath", "-ldflags=-s -w "+c.LDFlags)
	if c.Tags != "" {
		args = append(args, "-tags="+c.Tags)
	}
	return append(args, pkg)
}

// program is the file name of what a module of this repository builds.
func (c Component) program() string {
	if len(c.Links) > 0 {
		return "hyper"
	}
	return c.Name
}

func goVersion(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		return "", fmt.Errorf("asking for the Go release: %w; put the go command on PATH", err)
	}
	return strings.TrimSpace(string(output)), nil
}

// tail is the end of a compiler's output, where the reason is.
func tail(output []byte) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
