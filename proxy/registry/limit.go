package registry

import "sync"

const (
	// retryAfter is when, in seconds, another failure is allowed for sure, and when a request may have come to its end.
	retryAfter = 1
	// mostInFlight and mostOfNamespace are the requests of known callers at one time. At 64 KiB for each that a
	// slow client holds, all of them are 256 MiB.
	mostInFlight    = 4096
	mostOfNamespace = 1000
)

// flights counts the requests that have no whole answer yet.
type flights struct {
	most, mostOfNamespace int

	mu          sync.Mutex
	all         int
	byNamespace map[string]int
}

// enter counts a request of the namespace in, if there is room for it.
func (f *flights) enter(namespace string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all >= f.most || f.byNamespace[namespace] >= f.mostOfNamespace {
		return false
	}
	f.all++
	f.byNamespace[namespace]++
	return true
}

// leave counts it out.
func (f *flights) leave(namespace string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.byNamespace[namespace]--; f.byNamespace[namespace] == 0 {
		delete(f.byNamespace, namespace)
	}
}
