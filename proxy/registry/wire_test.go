package registry

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/proxy/upstream"
)

// dial opens a connection to the proxy that speaks what is written to it, and nothing else.
func dial(t testing.TB, w *world) net.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", w.front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// say writes raw requests, and returns the statuses of all answers until the proxy closes the connection.
func say(t testing.TB, w *world, raw string) []int {
	t.Helper()
	c := dial(t, w)
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	go func() { _, _ = io.WriteString(c, raw) }()
	read := bufio.NewReader(c)
	var statuses []int
	for {
		response, err := http.ReadResponse(read, nil)
		if err != nil {
			return statuses
		}
		_, _ = io.Copy(io.Discard, response.Body)
		statuses = append(statuses, response.StatusCode)
	}
}

// TestSmuggling: what one server would read as one request and another as two, or as another one. LAST is a good
// request that closes the connection: the answers show where the first one ended.
func TestSmuggling(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.registry.answer(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.WriteHeader(http.StatusAccepted)
	})
	const hidden = "GET /v2/namespaces/demo/connectors/harbor/hidden/manifests/v1 HTTP/1.1\r\nHost: berth\r\nX: "
	last := "GET " + base + "a/manifests/last HTTP/1.1\r\nHost: berth\r\nConnection: close\r\nAUTH\r\n\r\n"
	patch := "PATCH " + base + "a/blobs/uploads/u1 HTTP/1.1\r\nHost: berth\r\nAUTH\r\n"
	get := "GET " + base + "a/manifests/v1 HTTP/1.1\r\nHost: berth\r\nAUTH\r\n"
	for name, test := range map[string]struct {
		raw string
		// want are the statuses of the answers.
		want []int
		// seen are what the registry got.
		seen []string
		// check looks at what the registry got.
		check func(*http.Request) bool
	}{
		"two Content-Lengths":        {raw: patch + "Content-Length: 4\r\nContent-Length: 40\r\n\r\nbody" + last, want: []int{400}},
		"two equal Content-Lengths":  {raw: patch + "Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody" + last, want: []int{202, 202}, seen: []string{"PATCH /v2/a/blobs/uploads/u1", "GET /v2/a/manifests/last"}},
		"list of Content-Lengths":    {raw: patch + "Content-Length: 4, 40\r\n\r\nbody" + last, want: []int{400}},
		"signed Content-Length":      {raw: patch + "Content-Length: +4\r\n\r\nbody" + last, want: []int{400}},
		"hexadecimal Content-Length": {raw: patch + "Content-Length: 0x4\r\n\r\nbody" + last, want: []int{400}},
		"TE and CL":                  {raw: patch + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + last, want: []int{202, 202}, seen: []string{"PATCH /v2/a/blobs/uploads/u1", "GET /v2/a/manifests/last"}, check: func(r *http.Request) bool { return r.Header.Get("Content-Length") == "" }},
		"unknown TE":                 {raw: patch + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + last, want: []int{501}},
		"TE after a space":           {raw: patch + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + last, want: []int{400}},
		"two TEs":                    {raw: patch + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + last, want: []int{501}},
		"chunk that is no number":    {raw: patch + "Transfer-Encoding: chunked\r\n\r\nzz\r\nbody\r\n0\r\n\r\n" + last, want: []int{400}, seen: []string{"PATCH /v2/a/blobs/uploads/u1"}},
		"obs-fold":                   {raw: get + "X-A: b\r\n Authorization: Basic eA==\r\nConnection: close\r\n\r\n", want: []int{202}, seen: []string{"GET /v2/a/manifests/v1"}, check: basicOnly},
		"obs-fold at the start":      {raw: "GET " + base + "a/manifests/v1 HTTP/1.1\r\n Host: berth\r\nAUTH\r\n\r\n", want: []int{400}},
		"LF alone":                   {raw: strings.ReplaceAll(get+"Connection: close\r\n\r\n", "\r\n", "\n"), want: []int{202}, seen: []string{"GET /v2/a/manifests/v1"}, check: basicOnly},
		"NUL in a header":            {raw: get + "X-A: a\x00b\r\n\r\n", want: []int{400}},
		"line end in a header":       {raw: get + "X-A: a\rb: c\r\n\r\n", want: []int{400}},
		"no name":                    {raw: get + ": b\r\n\r\n", want: []int{400}},
		"two Hosts":                  {raw: get + "Host: other\r\n\r\n", want: []int{400}},
		"no Host":                    {raw: "GET " + base + "a/manifests/v1 HTTP/1.1\r\nAUTH\r\n\r\n", want: []int{400}},
		"nominated Authorization":    {raw: get + "Connection: close, Authorization\r\n\r\n", want: []int{202}, seen: []string{"GET /v2/a/manifests/v1"}, check: basicOnly},
		"two Authorizations":         {raw: get + "Authorization: Bearer mine\r\nConnection: close\r\n\r\n", want: []int{202}, seen: []string{"GET /v2/a/manifests/v1"}, check: basicOnly},
		"Upgrade":                    {raw: get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + last, want: []int{400, 202}, seen: []string{"GET /v2/a/manifests/last"}},
		"HTTP/2 by prior knowledge":  {raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", want: []int{404}},
		"X-Forwarded":                {raw: get + "X-Forwarded-Host: evil\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: http\r\nForwarded: host=evil\r\nConnection: close\r\n\r\n", want: []int{202}, seen: []string{"GET /v2/a/manifests/v1"}, check: func(r *http.Request) bool { return !strings.Contains(fmt.Sprint(r.Header), "evil") }},
		"absolute form, other host":  {raw: "GET https://evil.example.com" + base + "a/manifests/v1 HTTP/1.1\r\nHost: berth\r\nAUTH\r\nConnection: close\r\n\r\n", want: []int{202}, seen: []string{"GET /v2/a/manifests/v1"}, check: func(r *http.Request) bool { return r.Host == host(w.registry.server) }},
		"absolute form, other path":  {raw: "GET https://" + host(w.registry.server) + "/api/v2.0/users HTTP/1.1\r\nHost: berth\r\nAUTH\r\nConnection: close\r\n\r\n", want: []int{404}},
		"CONNECT":                    {raw: "CONNECT " + host(w.registry.server) + " HTTP/1.1\r\nHost: berth\r\nAUTH\r\nConnection: close\r\n\r\n", want: []int{400}},
		"asterisk":                   {raw: "OPTIONS * HTTP/1.1\r\nHost: berth\r\nAUTH\r\nConnection: close\r\n\r\n", want: []int{200}},
		"?ns=":                       {raw: "GET " + base + "a/manifests/v1?ns=evil.example.com HTTP/1.1\r\nHost: berth\r\nAUTH\r\nConnection: close\r\n\r\n", want: []int{202}, seen: []string{"GET /v2/a/manifests/v1"}},
		"request in a GET's body":    {raw: get + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden + last, want: []int{202, 202}, seen: []string{"GET /v2/a/manifests/v1", "GET /v2/a/manifests/last"}},
		"request in a refused body":  {raw: "PATCH " + base + "_catalog HTTP/1.1\r\nHost: berth\r\nAUTH\r\n" + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden + last, want: []int{405, 202}, seen: []string{"GET /v2/a/manifests/last"}},
		"method with a line end":     {raw: "GET\r\nX: y " + base + "a/manifests/v1 HTTP/1.1\r\n\r\n", want: []int{400}},
		"space in the path":          {raw: "GET " + base + "a/manifests/v1 /x HTTP/1.1\r\nHost: berth\r\nAUTH\r\n\r\n", want: []int{400}},
		"header without an end":      {raw: get + "X-Endless: " + strings.Repeat("x", 8<<20), want: []int{431}},
		"headers without an end":     {raw: get + strings.Repeat("X-More: x\r\n", 1<<19), want: []int{431}},
	} {
		t.Run(name, func(t *testing.T) {
			raw := strings.ReplaceAll(test.raw, "AUTH", "Authorization: Bearer "+w.token("demo", forProxies))
			got := say(t, w, raw)
			if !slices.Equal(got, test.want) {
				t.Errorf("answers: %v, want %v", got, test.want)
			}
			var seen []string
			for _, r := range w.registry.seen() {
				seen = append(seen, r.Method+" "+r.RequestURI)
				if test.check != nil && strings.HasSuffix(r.URL.Path, "1") && !test.check(r) {
					t.Errorf("the registry got %s %s, Host %s, %v", r.Method, r.RequestURI, r.Host, r.Header)
				}
			}
			if !slices.Equal(seen, test.seen) {
				t.Errorf("the registry got %v, want %v", seen, test.seen)
			}
		})
	}
}

// basicOnly reports whether a request carries the Connector's credential, and no other.
func basicOnly(r *http.Request) bool {
	u, p, ok := r.BasicAuth()
	return ok && u == username && p == password && len(r.Header["Authorization"]) == 1
}

// TestGiantHeader: a client that sends a gigabyte of header is cut off long before.
func TestGiantHeader(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	c := dial(t, w)
	fmt.Fprintf(c, "GET %sa/manifests/v1 HTTP/1.1\r\nHost: berth\r\nX-Endless: ", base)
	chunk, sent := make([]byte, 64<<10), 0
	for i := range chunk {
		chunk[i] = 'x'
	}
	for sent < 1<<30 {
		n, err := c.Write(chunk)
		sent += n
		if err != nil {
			break
		}
	}
	if sent > 64<<20 {
		t.Errorf("%d MiB were taken", sent>>20)
	}
	if seen := w.registry.seen(); len(seen) > 0 {
		t.Error("the registry heard of it")
	}
}

// TestRegistryLies: an answer that is not whole never looks whole.
func TestRegistryLies(t *testing.T) {
	for name, raw := range map[string]string{
		"shorter than it says":   "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
		"no last chunk":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"broken chunk":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
		"two lengths":            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 8\r\n\r\nhalfhalf",
		"no HTTP":                "SSH-2.0-OpenSSH\r\n",
		"half a header":          "HTTP/1.1 200 OK\r\nContent-Le",
		"header without an end":  "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20),
		"switches to another":    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
		"length and chunks, bad": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, upstream.Timeouts{})
			w.registry.answer(func(rw http.ResponseWriter, _ *http.Request) {
				c, buffered, err := http.NewResponseController(rw).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_, _ = buffered.WriteString(raw)
				_ = buffered.Flush()
			})
			response, err := w.front.Client().Do(w.request(http.MethodGet, base+"a/blobs/"+sha256, w.token("demo")))
			if err != nil {
				return // broken off
			}
			defer response.Body.Close()
			if _, err := io.ReadAll(response.Body); err == nil && response.StatusCode < http.StatusBadGateway {
				t.Errorf("the client believes it: %d", response.StatusCode)
			}
		})
	}
}
