// Command mutation shows that the tests of the core hold its rules: it breaks
// one rule at a time, and asks of the test that is named for it to fail.
//
//	go run ./test/mutation [NAME…]
//
// A mutation replaces a text that stands exactly once in a file. The files
// themselves stay: the go command reads the broken one by -overlay. It ends
// with status 0 only if every mutation compiles and is caught by its test.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/yaml"
)

//go:embed mutations.yaml
var table []byte

// atOnce is how many mutations are tried at the same time, each with a compiler of its own.
const atOnce = 2

// mutation breaks a rule of the core.
type mutation struct {
	// Name says the rule as it is once broken.
	Name string `json:"name"`
	// File of the module, in which Old stands once and is replaced by New.
	File string `json:"file"`
	Old  string `json:"old"`
	New  string `json:"new"`
	// Test is the package and the test that must fail.
	Test string `json:"test"`
}

var (
	errSurvived = errors.New("SURVIVES: its test passes")
	errCompile  = errors.New("does not compile")
	errText     = errors.New("the old text must stand exactly once in its file")
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run tries the mutations that are named, or all.
func run(ctx context.Context, out io.Writer, names []string) error {
	var mutations []mutation
	if err := yaml.UnmarshalStrict(table, &mutations); err != nil {
		return fmt.Errorf("read the table: %w", err)
	}
	if len(names) > 0 {
		mutations = slices.DeleteFunc(mutations, func(m mutation) bool { return !slices.Contains(names, m.Name) })
	}
	if output, err := exec.CommandContext(ctx, "go", "test", "-vet=off", "./rewrite", "./access", "./route", "./webhook").CombinedOutput(); err != nil {
		return fmt.Errorf("the tests fail without any mutation: %w\n%s", err, output)
	}
	results := make([]error, len(mutations))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range mutations {
		group.Go(func() error {
			results[i] = mutations[i].try(ctx)
			return nil
		})
	}
	if err := errors.Join(group.Wait(), ctx.Err()); err != nil {
		return err
	}
	return report(out, mutations, results)
}

// report prints a line for each mutation, and fails where one was not caught.
func report(out io.Writer, mutations []mutation, results []error) error {
	lines := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	failed := 0
	for i, m := range mutations {
		outcome := "caught"
		if results[i] != nil {
			outcome = results[i].Error()
			failed++
		}
		if _, err := fmt.Fprintf(lines, "%s\t%s\t%s\n", m.Name, m.Test, outcome); err != nil {
			return err
		}
	}
	if err := lines.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d mutations were not caught", failed, len(mutations))
	}
	_, err := fmt.Fprintf(out, "all %d mutations were caught\n", len(mutations))
	return err
}

// try returns nil where the mutation is caught.
func (m mutation) try(ctx context.Context) error {
	folder, err := os.MkdirTemp("", "mutation-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	overlay, err := m.overlay(folder)
	if err != nil {
		return err
	}
	pkg, test, _ := strings.Cut(m.Test, " ")
	function, sub, _ := strings.Cut(test, "/")
	pattern := "^" + function + "$"
	if sub != "" {
		pattern += "/^" + sub + "$"
	}
	var output, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-vet=off", "-p=1", "-overlay", overlay, "-run", pattern, "./"+pkg)
	cmd.Stdout, cmd.Stderr = &output, &stderr
	if err := cmd.Run(); err == nil {
		return errSurvived
	}
	return caught(&output, test, stderr.String())
}

// overlay writes the broken file, and the overlay that puts it in its place.
func (m mutation) overlay(folder string) (string, error) {
	original, err := filepath.Abs(m.File)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	if strings.Count(string(text), m.Old) != 1 {
		return "", errText
	}
	broken, overlay := filepath.Join(folder, "broken.go"), filepath.Join(folder, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{original: broken}})
	if err != nil {
		return "", err
	}
	return overlay, errors.Join(
		os.WriteFile(broken, []byte(strings.Replace(string(text), m.Old, m.New, 1)), 0o600),
		os.WriteFile(overlay, replace, 0o600),
	)
}

// event is a line of `go test -json`.
type event struct {
	Action string `json:"Action"`
	Test   string `json:"Test"`
	Output string `json:"Output"`
}

// caught looks for the test among those that failed.
func caught(events io.Reader, test, stderr string) error {
	decoder := json.NewDecoder(events)
	var others []string
	for {
		var event event
		switch err := decoder.Decode(&event); {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("not caught by its test, but by %v %s", others, stderr)
		case err != nil:
			return fmt.Errorf("read the events of go test: %w", err)
		case event.Action == "build-output" && !strings.HasPrefix(event.Output, "#"):
			return fmt.Errorf("%w: %s", errCompile, strings.TrimSpace(event.Output))
		case event.Action == "fail" && event.Test == test:
			return nil
		case event.Action == "fail":
			others = append(others, event.Test)
		}
	}
}
