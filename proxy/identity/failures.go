package identity

import (
	"net"
	"net/http"
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
)

// Failures counts, for each client address, the tokens that were no good. A good
// token is never refused for another client's sake, although they may share an
// address: who signs in is not counted, and not looked up here. Make it by NewFailures.
type Failures struct {
	bySource *lru.Cache[string, *rate.Limiter]
}

// NewFailures returns a count of nothing.
func NewFailures() *Failures {
	cache, _ := lru.New[string, *rate.Limiter](mostSources) // fails only for a size below 1
	return &Failures{bySource: cache}
}

// Allow counts one failure, and reports whether the address is still within its limit.
func (f *Failures) Allow(source string, now time.Time) bool {
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

// Source is the client's address without its port.
func Source(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
