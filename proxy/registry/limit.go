package registry

import (
	"net"
	"net/http"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

const (
	// mostSources bounds the client addresses that are remembered.
	mostSources = 8192
	// failuresPerSecond and failureBurst are what one address may fail to authenticate. Many Pods share their
	// node's address, and kubelet asks five times for each wrong secret.
	failuresPerSecond = 2
	failureBurst      = 40
	// retryAfter is when, in seconds, another failure is allowed for sure, and when a request may have come to its end.
	retryAfter = 1
	// mostInFlight and mostOfNamespace are the requests of known callers at one time. At 64 KiB for each that a
	// slow client holds, all of them are 256 MiB.
	mostInFlight    = 4096
	mostOfNamespace = 1000
)

// failures counts, for each client address, the tokens that were no good. A good
// token is never refused for another client's sake, although they may share an
// address: who signs in is not counted, and not looked up here.
type failures struct {
	bySource *lru.Cache[string, *rate.Limiter]
}

func newFailures() failures {
	cache, _ := lru.New[string, *rate.Limiter](mostSources) // fails only for a size below 1
	return failures{bySource: cache}
}

// allow counts one failure, and reports whether the address is still within its limit.
func (f failures) allow(source string, now time.Time) bool {
	limiter, ok := f.bySource.Get(source)
	if !ok {
		fresh := rate.NewLimiter(failuresPerSecond, failureBurst)
		if earlier, found, _ := f.bySource.PeekOrAdd(source, fresh); found {
			fresh = earlier
		}
		limiter = fresh
	}
	return limiter.AllowN(now, 1)
}

// source is the client's address without its port.
func source(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

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
