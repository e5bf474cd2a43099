package client_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const documentation = "../../docs/clients.md"

//nolint:gochecknoglobals // a flag of the test
var update = flag.Bool("update", false, "write the tables into the documentation")

// TestDocumented: the tables of the documentation are those of the clients that TestMatrix and TestForward run.
func TestDocumented(t *testing.T) {
	content, err := os.ReadFile(documentation)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	for name, made := range map[string]string{"images": table(), "proxy": forwardTable()} {
		begin := "<!-- table '" + name + "', written by: go test ./test/client -run TestDocumented -update -->\n"
		const end = "<!-- end of the table -->\n"
		before, rest, found := strings.Cut(text, begin)
		written, after, ended := strings.Cut(rest, end)
		if !found || !ended {
			t.Fatalf("'%s' must hold the table between '%s' and '%s'", documentation, begin, end)
		}
		text = before + begin + made + end + after
		if diff := cmp.Diff(written, made); diff != "" && !*update {
			t.Errorf("the documentation is not what is run; write it anew by -update (-what is written +what is run):\n%s", diff)
		}
	}
	if *update {
		if err := os.WriteFile(documentation, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestComplete: each client either has an operation, or there is a reason why not.
func TestComplete(t *testing.T) {
	for _, c := range clients() {
		for _, o := range operations() {
			_, can := c.cells[o]
			if why := c.cannot[o]; can == (why != "") {
				t.Errorf("%s, %s: there must be either a cell or a reason, and is '%s'", c.name, o, why)
			}
		}
	}
}

func table() string {
	var b, notes strings.Builder
	b.WriteString("| client | pull | push | list | copy | delete | how it learns of a certificate authority |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, c := range clients() {
		var reasons []string
		cells := make([]string, 0, len(operations()))
		for _, o := range operations() {
			why, cannot := c.cannot[o]
			cells = append(cells, map[bool]string{true: "–", false: "yes"}[cannot])
			if cannot && !slices.Contains(reasons, why) {
				reasons = append(reasons, why)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.name, strings.Join(cells, " | "), c.authority)
		if len(reasons) > 0 {
			fmt.Fprintf(&notes, "- %s: %s.\n", c.name, strings.Join(reasons, "; "))
		}
	}
	return b.String() + "\nA dash is what the client itself has no command for:\n\n" + notes.String()
}

func forwardTable() string {
	var b, notes strings.Builder
	b.WriteString("| client | what it did | by what it finds its way |\n| --- | --- | --- |\n")
	for _, f := range forwardeds() {
		does := f.does
		if f.instead != "" {
			does = "–"
			fmt.Fprintf(&notes, "- %s: %s.\n", f.name, f.instead)
		}
		fmt.Fprintf(&b, "| %s | %s | `%s` |\n", f.name, does, strings.Join(f.by, "`, `"))
	}
	return b.String() + "\nA dash is what cannot, and did this instead:\n\n" + notes.String()
}
