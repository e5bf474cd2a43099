package forward

import (
	"net/http"
	"sync"
	"testing"
)

// Requests within tunnels are bounded by themselves, for each namespace and in all, and give their places back.
func TestLimitsOfRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Requests, o.RequestsPerNamespace = 3, 2 })
	arrived, release := make(chan struct{}, 3), make(chan struct{})
	w.harbor.answer(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	get := func(namespace string) (status int, after string) {
		response, err := w.client(namespace).Get("https://" + harborHost + "/v2/test/abc/manifests/v1")
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer response.Body.Close()
		return response.StatusCode, response.Header.Get("Retry-After")
	}
	var held sync.WaitGroup
	hold := func(namespace string) {
		held.Go(func() { get(namespace) })
		<-arrived
	}
	hold("demo")
	hold("demo")
	if status, after := get("demo"); status != 429 || after == "" {
		t.Errorf("a third of the same namespace: %d, again after %q", status, after)
	}
	w.log.has(t, ReasonTooManyRequests)
	hold("team")
	if status, _ := get("team"); status != 429 {
		t.Errorf("a fourth of all: %d", status)
	}
	close(release)
	held.Wait()
	if !eventually(func() bool { status, _ := get("demo"); return status == 200 }) {
		t.Error("the places are not given back")
	}
}
