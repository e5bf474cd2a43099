package registry

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/proxy/upstream"
)

// TestRestOfABodyIsNoRequest: a registry answers before it has the whole body, and the client sends the rest later.
// It may hold anything, and must not be taken for a request.
func TestRestOfABodyIsNoRequest(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.registry.answer(answers(http.StatusNotFound))
	hidden := fmt.Sprintf("GET %sb/manifests/hidden HTTP/1.1\r\nHost: berth\r\nAuthorization: Bearer %s\r\n\r\n", base, w.token("demo"))
	c := dial(t, w)
	read := bufio.NewReader(c)
	fmt.Fprintf(c, "PATCH %sa/blobs/uploads/u1 HTTP/1.1\r\nHost: berth\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n12345", base, w.token("demo", forProxies), len(hidden)+5)
	response, err := http.ReadResponse(read, nil)
	if err != nil || response.StatusCode != http.StatusNotFound || !response.Close {
		t.Fatalf("%+v, %v", response, err)
	}
	<-time.After(1500 * time.Millisecond) // longer than the proxy reads on; the client is late: that is what is tested
	_, _ = io.WriteString(c, hidden)
	if rest, _ := io.ReadAll(read); strings.Contains(string(rest), "HTTP/1.1") {
		t.Errorf("another answer came: %s", rest)
	}
	for _, seen := range w.registry.seen() {
		if strings.Contains(seen.URL.Path, "hidden") {
			t.Errorf("the rest of a body became a request: %s", seen.URL)
		}
	}
}
