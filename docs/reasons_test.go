// Package docs holds the tests of the documentation.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// constants returns the values of the string constants of a file whose names have a prefix.
func constants(t *testing.T, file, prefix string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, prefix) || len(spec.Values) != 1 {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			t.Fatalf("%s: %s is no literal", file, spec.Names[0].Name)
		}
		value, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
		return false
	})
	slices.Sort(values)
	return values
}

// rows returns the first cells of the table below a heading; a row must say something in each cell.
func rows(t *testing.T, page, heading string) []string {
	t.Helper()
	_, section, ok := strings.Cut(page, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("there is no heading '%s'", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var names []string
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		name, ok := strings.CutPrefix(strings.TrimSpace(cells[0]), "`")
		if !ok {
			continue
		}
		for _, cell := range cells {
			if strings.TrimSpace(cell) == "" || len(cells) != 3 {
				t.Errorf("'%s' must have three cells, and words in each: %s", heading, line)
			}
		}
		names = append(names, strings.TrimSuffix(name, "`"))
	}
	slices.Sort(names)
	return names
}

// TestReasons holds docs/reasons.md to the code.
func TestReasons(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	for heading, want := range map[string][]string{
		"Conditions of a Connector":           constants(t, "../api/v1alpha1/conditions.go", "Condition"),
		"Reasons of a Connector's conditions": constants(t, "../api/v1alpha1/conditions.go", "Reason"),
		"Reasons for what is done to a Pod":   constants(t, "../rewrite/report.go", "Reason"),
		"Reasons of the proxy":                constants(t, "../proxy/registry/refusal.go", "Reason"),
		"Reasons of a node":                   constants(t, "../api/v1alpha1/node.go", "NodeReason"),
		"Reasons of the forward proxy":        constants(t, "../proxy/forward/refusal.go", "Reason"),
	} {
		t.Run(heading, func(t *testing.T) {
			t.Parallel()
			if len(want) == 0 {
				t.Fatal("the code has none")
			}
			if diff := cmp.Diff(want, rows(t, string(page), heading)); diff != "" {
				t.Errorf("reasons.md (-code +page):\n%s", diff)
			}
		})
	}
}
