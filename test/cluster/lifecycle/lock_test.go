package lifecycle

import (
	"context"
	"errors"
	"testing"

	"berth.dev/berth/test/cluster/layout"
)

func TestLock(t *testing.T) {
	cache, ours, theirs := t.TempDir(), layout.State(t.TempDir()), layout.State(t.TempDir())
	held, err := lock(cache, theirs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(cache, ours); !errors.Is(err, errOther) {
		t.Errorf("another cluster is up: got %v", err)
	}
	if _, err := awaitLock(context.Background(), cache, ours); !errors.Is(err, errOther) {
		t.Errorf("waiting while another cluster is up: got %v", err)
	}
	if _, err := lock(cache, theirs); err == nil || errors.Is(err, errTaken) || errors.Is(err, errOther) {
		t.Errorf("their own is starting: got %v", err)
	}
	if err := (record{Ready: true}).save(theirs); err != nil {
		t.Fatal(err)
	}
	if _, err := lock(cache, theirs); !errors.Is(err, errTaken) {
		t.Errorf("their own is up: got %v", err)
	}
	held.Close()
	again, err := awaitLock(context.Background(), cache, ours)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
