package manifest_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/config"
	"berth.dev/berth/manifest"
	"berth.dev/berth/rewrite"
)

//nolint:gochecknoglobals // a flag of the test
var update = flag.Bool("update", false, "write the goldens as they are now")

func policy() *rewrite.Policy {
	return new(config.Default())
}

// surroundings are those of the goldens, and what stands in the stream.
func surroundings(t testing.TB, streams ...*manifest.Stream) *manifest.Surroundings {
	t.Helper()
	content, err := os.ReadFile("testdata/surroundings.yaml")
	if err != nil {
		t.Fatal(err)
	}
	shared, err := manifest.Parse("surroundings.yaml", content)
	if err != nil {
		t.Fatal(err)
	}
	around := manifest.NewSurroundings("default")
	for _, s := range append([]*manifest.Stream{shared}, streams...) {
		if err := around.AddStream(s); err != nil {
			t.Fatal(err)
		}
	}
	return around
}

// run rewrites a text, which must be good.
func run(t testing.TB, name string, text []byte) ([]byte, manifest.Report) {
	t.Helper()
	stream, err := manifest.Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	out, report, err := stream.Rewrite(surroundings(t, stream), policy())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(stream.Bytes())); diff != "" {
		t.Errorf("the input was changed:\n%s", diff)
	}
	return out.Bytes(), report
}

// goldens returns the inputs, each with the name of its output.
func goldens(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.in.*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	outputs := map[string]string{}
	for _, in := range files {
		outputs[in] = strings.Replace(in, ".in.", ".out.", 1)
	}
	return outputs
}

func TestGoldens(t *testing.T) {
	t.Parallel()
	for in, out := range goldens(t) {
		t.Run(filepath.Base(in), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			got, report := run(t, filepath.Base(in), text)
			compare(t, out, string(got))
			compare(t, strings.Replace(in, ".in.", ".report.", 1), spell(report))
			again, second := run(t, filepath.Base(in), got)
			if diff := cmp.Diff(string(got), string(again)); diff != "" {
				t.Errorf("twice is not once:\n%s", diff)
			}
			for _, e := range second {
				if e.Outcome == manifest.Changed {
					t.Errorf("the second pass changes: %s", e.String())
				}
			}
		})
	}
}

func spell(report manifest.Report) string {
	var b strings.Builder
	for _, e := range report {
		b.WriteString(e.String() + "\n")
	}
	return b.String()
}

func compare(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; write it by `go test ./manifest -update`, and read it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestNoStaleGolden(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"testdata/surroundings.yaml": true}
	for in, out := range goldens(t) {
		known[in], known[out], known[strings.Replace(in, ".in.", ".report.", 1)] = true, true, true
	}
	files, err := filepath.Glob("testdata/*.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !known[file] {
			t.Errorf("'%s' has no input any more", file)
		}
	}
}

func BenchmarkRewrite(b *testing.B) {
	text, err := os.ReadFile("testdata/comments.in.yaml")
	if err != nil {
		b.Fatal(err)
	}
	stream, err := manifest.Parse("comments", text)
	if err != nil {
		b.Fatal(err)
	}
	around := surroundings(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, _, err := stream.Rewrite(around, policy()); err != nil {
			b.Fatal(err)
		}
	}
}
