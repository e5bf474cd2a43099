package identity_test

import (
	"net/http"
	"testing"
	"time"

	"berth.dev/berth/proxy/identity"
)

func TestFailuresAreLimitedForEachAddressAlone(t *testing.T) {
	t.Parallel()
	failures, now := identity.NewFailures(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	allowed := 0
	for failures.Allow("10.0.0.1", now) && allowed < 1000 {
		allowed++
	}
	if allowed != 40 {
		t.Errorf("one address may fail %d times at once, want 40", allowed)
	}
	if !failures.Allow("10.0.0.2", now) {
		t.Error("another address is refused for it")
	}
	if failures.Allow("10.0.0.1", now) || !failures.Allow("10.0.0.1", now.Add(time.Second)) {
		t.Error("the limit does not ease by the second")
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{"10.0.0.1:5555": "10.0.0.1", "[2001:db8::1]:1": "2001:db8::1", "pipe": "pipe"} {
		if got := identity.Source(&http.Request{RemoteAddr: from}); got != want {
			t.Errorf("Source of '%s' = '%s', want '%s'", from, got, want)
		}
	}
}
