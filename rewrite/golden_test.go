package rewrite_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/rewrite"
)

//nolint:gochecknoglobals // a flag of the test
var update = flag.Bool("update", false, "write the goldens as they are now")

const (
	inSuffix  = ".in.yaml"
	outSuffix = ".out.yaml"
)

// goldens are the scenes by name.
func goldens(t testing.TB) map[string]*scene {
	t.Helper()
	files, err := filepath.Glob("testdata/*" + inSuffix)
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	scenes := map[string]*scene{}
	for _, in := range files {
		scenes[strings.TrimSuffix(filepath.Base(in), inSuffix)] = readScene(t, in)
	}
	return scenes
}

func TestGoldens(t *testing.T) {
	t.Parallel()
	for name, s := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after, report, err := s.run()
			compareGolden(t, filepath.Join("testdata", name+outSuffix), render(t, s.pod, after, report, err))
		})
	}
}

// render is what an .out.yaml holds: the report and the patch as people read them, or the refusal.
func render(t testing.TB, before, after *corev1.Pod, report rewrite.Report, err error) string {
	t.Helper()
	if err != nil {
		return "refused: " + err.Error() + "\n"
	}
	var b strings.Builder
	for _, c := range report.Changes {
		b.WriteString("change " + c.Field + "\n")
		if c.From != "" {
			b.WriteString("    " + c.From + "\n")
		}
		b.WriteString(" -> " + c.To + "\n")
	}
	for _, s := range report.Skips {
		b.WriteString("skip " + s.String() + "\n")
	}
	b.WriteString("patch\n")
	ops := patch(t, before, after)
	slices.SortStableFunc(ops, func(a, b jsonpatch.Operation) int { return strings.Compare(order(a), order(b)) })
	for _, op := range ops {
		b.WriteString("  " + op.Json() + "\n")
	}
	return b.String()
}

// patch is what the webhook would answer.
func patch(t testing.TB, before, after *corev1.Pod) []jsonpatch.Operation {
	t.Helper()
	a, errA := json.Marshal(before)
	b, errB := json.Marshal(after)
	ops, err := jsonpatch.CreatePatch(a, b)
	if err := errors.Join(errA, errB, err); err != nil {
		t.Fatal(err)
	}
	return ops
}

// order sorts operations, which come in the order of maps: by what they do, then by path with numbers as numbers.
func order(op jsonpatch.Operation) string {
	return op.Operation + regexp.MustCompile(`\d+`).ReplaceAllStringFunc(op.Path, func(n string) string {
		return strings.Repeat("0", max(0, 9-len(n))) + n
	})
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; write it by `go test ./rewrite -update`, and read it", err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestNoStaleGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*" + outSuffix)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range files {
		if _, err := os.Stat(strings.TrimSuffix(out, outSuffix) + inSuffix); err != nil {
			t.Errorf("'%s' has no input any more", out)
		}
	}
}
