package secret_test

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"berth.dev/berth/secret"
)

// TestMain takes away the handlers of client-go that log errors and then sleep by
// the time of the last one: that is of the real clock, and decades ahead of a bubble's.
func TestMain(m *testing.M) {
	utilruntime.ErrorHandlers = nil //nolint:reassign // there is no other way
	os.Exit(m.Run())
}

// cluster is an API server with Secrets that, unlike the fake one, heeds field
// selectors and may refuse, beside the follower that is tested on it.
//
// It lives in a bubble of synctest: the clock jumps over back-offs, and a
// goroutine that outlives the context of the test fails it.
type cluster struct {
	*fake.Clientset
	*secret.Follower

	mu       sync.Mutex
	refusal  error // answers all requests, while there is one
	watches  map[string][]watch.Interface
	reported map[string][]string // what Get says of a Secret when the follower reports a change
}

func inCluster(t *testing.T, test func(*testing.T, *cluster), secrets ...runtime.Object) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{Clientset: fake.NewClientset(secrets...), watches: map[string][]watch.Interface{}, reported: map[string][]string{}}
		c.PrependReactor("list", "secrets", c.list)
		c.PrependWatchReactor("secrets", c.watch)
		c.Follower = secret.NewFollower(t.Context(), c.Clientset, func(name types.NamespacedName) { c.report(t, name) })
		test(t, c)
	})
}

func (c *cluster) list(action clienttesting.Action) (bool, runtime.Object, error) {
	name, _ := action.(clienttesting.ListAction).GetListRestrictions().Fields.RequiresExactMatch("metadata.name")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refusal != nil {
		return true, nil, c.refusal
	}
	secrets := corev1.SchemeGroupVersion.WithResource("secrets")
	all, err := c.Tracker().List(secrets, corev1.SchemeGroupVersion.WithKind("Secret"), action.GetNamespace())
	if list, ok := all.(*corev1.SecretList); ok {
		list.Items = slices.DeleteFunc(list.Items, func(s corev1.Secret) bool { return s.Name != name })
	}
	return true, all, err
}

func (c *cluster) watch(action clienttesting.Action) (bool, watch.Interface, error) {
	name, _ := action.(clienttesting.WatchAction).GetWatchRestrictions().Fields.RequiresExactMatch("metadata.name")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refusal != nil {
		return true, nil, c.refusal
	}
	all, err := c.Tracker().Watch(corev1.SchemeGroupVersion.WithResource("secrets"), action.GetNamespace())
	if err != nil {
		return true, nil, err
	}
	one := watch.Filter(all, func(e watch.Event) (watch.Event, bool) {
		s, ok := e.Object.(*corev1.Secret)
		return e, ok && s.Name == name
	})
	c.watches[name] = append(c.watches[name], one)
	return true, one, nil
}

func (c *cluster) report(t *testing.T, name types.NamespacedName) {
	t.Helper()
	_, err := c.Get(t.Context(), name)
	outcome := reason(t, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reported[name.Name] = append(c.reported[name.Name], outcome)
}

// reports returns what was reported of a Secret since the last call, without repeats.
func (c *cluster) reports(name string) []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	defer delete(c.reported, name)
	return slices.Compact(c.reported[name])
}

// answer makes the API server answer each request with the error, or, for nil,
// as it should, and lets it end all watches. It returns when all have asked again.
func (c *cluster) answer(refusal error) {
	synctest.Wait()
	c.mu.Lock()
	c.refusal = refusal
	for _, watches := range c.watches {
		for _, w := range watches {
			w.Stop()
		}
	}
	c.mu.Unlock()
	<-time.After(time.Hour) // the bubble's: longer than any back-off
	synctest.Wait()
}

// watched reports whether a watch of the Secret still runs.
func (c *cluster) watched(name string) bool {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches[name] {
		select {
		case _, open := <-w.ResultChan():
			if open {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// reason is what a Get says, that waits for a second of the bubble.
func (c *cluster) reason(t *testing.T, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s, err := c.Get(ctx, key(name))
	if err == nil && s.Name != name {
		t.Errorf("Get(%s) returns '%s'", name, s.Name)
	}
	return reason(t, err)
}
