package event

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// told waits until the Events of a namespace are what is wanted, as "reason ×count: message".
func told(t *testing.T, clients *fake.Clientset, namespace string, want func([]string) bool) []string {
	t.Helper()
	end := time.After(5 * time.Second)
	for ticks := time.NewTicker(5 * time.Millisecond); ; {
		list, err := clients.CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range list.Items {
			e := &list.Items[i]
			got = append(got, fmt.Sprintf("%s %s/%s %s ×%d: %s", e.Type, e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Count, e.Message))
		}
		if want(got) {
			return got
		}
		select {
		case <-ticks.C:
		case <-end:
			ticks.Stop()
			t.Fatalf("the Events of '%s' are %q", namespace, got)
		}
	}
}

func TestEventsAreCounted(t *testing.T) {
	clients := fake.NewClientset()
	teller := NewTeller(t.Context(), clients)
	for range 3 {
		teller.Event("demo", "ActionRefused", "may not push")
	}
	teller.Event("other", "Unreachable", "it refuses connections")
	want := []string{"Warning Secret/berth-pull ActionRefused ×3: may not push"}
	told(t, clients, "demo", func(got []string) bool { return cmp.Equal(got, want) })
	want = []string{"Warning Secret/berth-pull Unreachable ×1: it refuses connections"}
	teller.About("berth-proxy").Event("third", "EgressRefused", "the policy")
	told(t, clients, "third", func(got []string) bool {
		return cmp.Equal(got, []string{"Warning Secret/berth-proxy EgressRefused ×1: the policy"})
	})
	told(t, clients, "other", func(got []string) bool { return cmp.Equal(got, want) })
}

// TestEventsAreLimited: a namespace that fails a thousand times in as many ways is not told a thousand times, and
// takes nothing from another.
func TestEventsAreLimited(t *testing.T) {
	clients := fake.NewClientset()
	teller := NewTeller(t.Context(), clients)
	for i := range 500 { // what waits may be dropped past a thousand
		teller.Event("noisy", "RepositoryRefused", fmt.Sprintf("may not use 'a/%d'", i))
	}
	teller.Event("demo", "ActionRefused", "may not push")
	told(t, clients, "demo", func(got []string) bool { return len(got) == 1 })
	writes := 0
	for _, action := range clients.Actions() {
		if action.GetNamespace() == "noisy" && (action.GetVerb() == "create" || action.GetVerb() == "patch") {
			writes++
		}
	}
	if writes == 0 || writes > burst {
		t.Errorf("%d writes for one namespace, want at most %d, and some", writes, burst)
	}
}

func TestCut(t *testing.T) {
	for name, message := range map[string]string{
		"short": "may not push", "long": strings.Repeat("x", 5000), "exact": strings.Repeat("x", longest),
		"characters of several bytes": strings.Repeat("é", 3000), "shifted by one": "x" + strings.Repeat("€", 3000),
	} {
		got := cut(message)
		if len(got) > longest || !utf8.ValidString(got) || !strings.HasPrefix(message, strings.TrimSuffix(got, "…")) {
			t.Errorf("%s: %d bytes, valid %v", name, len(got), utf8.ValidString(got))
		}
		if len(message) <= longest && got != message {
			t.Errorf("%s: cut to %q", name, got)
		}
	}
}
