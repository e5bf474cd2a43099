package layout

import (
	"os"
	"testing"
)

func TestResolveState(t *testing.T) {
	for dir, ok := range map[string]bool{"/srv/x": true, "/etc/x": false, "/run": false, "/var/lib/x": false, "/var/library": true, "x": true} {
		if _, err := ResolveState(dir); (err == nil) != ok {
			t.Errorf("ResolveState(%q): %v", dir, err)
		}
	}
}

func TestWipeKeepsLogsAndRefusesMounts(t *testing.T) {
	state := State(t.TempDir())
	for _, name := range []string{"log", "pki"} {
		if err := os.MkdirAll(state.Path(name, "x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := state.Wipe("30 1 0:1 / " + state.Path("containerd") + " rw - ext4 x rw"); err == nil {
		t.Error("wiped through a mount")
	}
	if err := state.Wipe("30 1 0:1 / / rw - ext4 x rw"); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(string(state))
	if err != nil || len(entries) != 1 || entries[0].Name() != "log" {
		t.Errorf("left %v, %v", entries, err)
	}
}
