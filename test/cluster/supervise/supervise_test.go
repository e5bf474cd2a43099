package supervise

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestFamily(t *testing.T) {
	dir := t.TempDir()
	family := NewFamily()
	spec := func(name, script string) Spec {
		return Spec{Name: name, Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(dir, name)}
	}
	done, err := family.Start(spec("done", "echo out; echo err >&2"))
	if err != nil {
		t.Fatal(err)
	}
	<-done.Done()
	if content, err := os.ReadFile(filepath.Join(dir, "done")); !done.Succeeded() || string(content) != "out\nerr\n" {
		t.Errorf("%s, wrote %q, %v", done.Ended(), content, err)
	}
	stays, err := family.Start(spec("stays", "exec sleep 60"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := family.Start(spec("stays", "true")); err == nil {
		t.Error("started one that runs")
	}
	if err := family.Kill("stays", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if got := family.States()["stays"]; got != "ended by killed" || stays.Succeeded() {
		t.Errorf("state '%s'", got)
	}
	if err := family.Kill("stays", time.Second); err == nil {
		t.Error("stopped one that does not run")
	}
}
