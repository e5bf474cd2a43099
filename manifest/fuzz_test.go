package manifest_test

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/manifest"
)

// FuzzRewrite holds, for any text: it is refused with its place, or what comes
// out parses, has as many documents, and stays as it is in a second pass. That
// it means what the core wanted, Rewrite itself checks.
func FuzzRewrite(f *testing.F) {
	for in := range goldens(f) {
		text, err := os.ReadFile(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range hostile {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		out, report, ok := try(t, text)
		if !ok {
			return
		}
		changed := false
		for _, e := range report {
			changed = changed || e.Outcome == manifest.Changed || e.Reason == manifest.ReasonReencoded
		}
		again, second, ok := try(t, out)
		if !ok {
			t.Fatalf("the output is refused:\n%s", out)
		}
		if diff := cmp.Diff(string(out), string(again)); diff != "" {
			t.Fatalf("twice is not once:\n%s", diff)
		}
		for _, e := range second {
			if e.Outcome == manifest.Changed {
				t.Fatalf("the second pass changes: %s", e.String())
			}
		}
	})
}

// try rewrites a text that may be bad.
func try(t *testing.T, text []byte) ([]byte, manifest.Report, bool) {
	t.Helper()
	stream, err := manifest.Parse("fuzz", text)
	if err != nil {
		located(t, err)
		return nil, nil, false
	}
	if diff := cmp.Diff(string(text), string(stream.Bytes())); diff != "" {
		t.Fatalf("the stream's text is not the input:\n%s", diff)
	}
	out, report, err := stream.Rewrite(surroundings(t), policy())
	if err != nil {
		located(t, err)
		return nil, nil, false
	}
	if _, err := stream.JSON(); err != nil {
		located(t, err)
	}
	return out.Bytes(), report, true
}

func located(t *testing.T, err error) {
	t.Helper()
	var input *manifest.InputError
	if !errors.As(err, &input) || input.File != "fuzz" {
		t.Fatalf("not an error of the input: %v", err)
	}
}
