package forward

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/access"
	"berth.dev/berth/bearer"
	"berth.dev/berth/certs"
	"berth.dev/berth/egress"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/token"
)

const pull = "GET /v2/test/abc/manifests/v1 HTTP/1.1\r\n"

// What a request within the tunnel says of its host changes nothing: another is refused, and neither that one nor Harbor hears of it.
func TestInnerHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, tc := range map[string]struct {
		text   string
		status int
	}{
		"the tunnel's":             {pull + "Host: harbor.example.com\r\n\r\n", 404},
		"with the port":            {pull + "Host: harbor.example.com:443\r\n\r\n", 404},
		"with a dot, in capitals":  {pull + "Host: HARBOR.example.com.\r\n\r\n", 404},
		"absolute":                 {"GET https://harbor.example.com/v2/test/abc/manifests/v1 HTTP/1.1\r\nHost: evil.example.net\r\n\r\n", 404},
		"another":                  {pull + "Host: evil.example.net\r\n\r\n", 421},
		"another port":             {pull + "Host: harbor.example.com:8443\r\n\r\n", 421},
		"a subdomain":              {pull + "Host: x.harbor.example.com\r\n\r\n", 421},
		"a user before it":         {pull + "Host: evil.example.net@harbor.example.com\r\n\r\n", 400},
		"a user that is it":        {pull + "Host: harbor.example.com@evil.example.net\r\n\r\n", 400},
		"brackets":                 {pull + "Host: [harbor.example.com]\r\n\r\n", 421},
		"an address":               {pull + "Host: 203.0.115.1\r\n\r\n", 421},
		"empty":                    {pull + "Host:\r\n\r\n", 400},
		"none":                     {pull + "\r\n", 400},
		"two":                      {pull + "Host: harbor.example.com\r\nHost: evil.example.net\r\n\r\n", 400},
		"a list":                   {pull + "Host: harbor.example.com,evil.example.net\r\n\r\n", 421},
		"absolute, another":        {"GET https://evil.example.net/v2/test/abc/manifests/v1 HTTP/1.1\r\nHost: harbor.example.com\r\n\r\n", 421},
		"absolute, in clear":       {"GET http://harbor.example.com/v2/test/abc/manifests/v1 HTTP/1.1\r\nHost: harbor.example.com\r\n\r\n", 421},
		"absolute, with a user":    {"GET https://a:b@harbor.example.com/v2/test/abc/manifests/v1 HTTP/1.1\r\nHost: harbor.example.com\r\n\r\n", 421},
		"a tunnel in the tunnel":   {"CONNECT evil.example.net:443 HTTP/1.1\r\nHost: evil.example.net\r\n\r\n", 400},
		"WebSocket":                {pull + "Host: harbor.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 400},
		"HTTP/2 in clear":          {pull + "Host: harbor.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", 400},
		"two lengths":              {"PATCH /v2/test/abc/blobs/uploads/1 HTTP/1.1\r\nHost: harbor.example.com\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
		"a length and chunks":      {"PATCH /v2/test/abc/blobs/uploads/1 HTTP/1.1\r\nHost: harbor.example.com\r\nContent-Length: 5\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400},
		"headers without end":      {pull + "Host: harbor.example.com\r\nX: " + strings.Repeat("a", mostHeader+8192) + "\r\n\r\n", 431},
		"Authorization, nominated": {pull + "Host: harbor.example.com\r\nConnection: Authorization\r\n\r\n", 404},
	} {
		t.Run(name, func(t *testing.T) {
			w.harbor.seen()
			if a := w.inside("demo", tc.text); a.StatusCode != tc.status {
				t.Errorf("status %d, want %d: %s", a.StatusCode, tc.status, a.body)
			}
			seen := w.harbor.seen()
			if want := map[bool]int{true: 1}[tc.status == 404]; len(seen) != want {
				t.Errorf("Harbor saw %d requests, want %d", len(seen), want)
			}
			for _, r := range seen {
				if r.Host != harborHost || r.RequestURI != "/v2/test/abc/manifests/v1" {
					t.Errorf("Harbor saw '%s' of '%s'", r.RequestURI, r.Host)
				}
			}
		})
	}
	if seen := w.evil.seen(); len(seen) > 0 {
		t.Errorf("the other server saw %d requests", len(seen))
	}
	if resolved, dialled := w.net.asked(); len(resolved) > 0 || strings.Contains(strings.Join(dialled, " "), "evil") {
		t.Errorf("resolved %v, dialled %v", resolved, dialled)
	}
}

// What signs the client in, what tells of the way and what would change the method stays at the proxy; trailers too.
func TestWhatHarborSees(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.inside("demo", pull+"Host: harbor.example.com\r\nCookie: sid=1\r\nX-Forwarded-Host: evil.example.net\r\nForwarded: host=evil\r\nProxy-Authorization: Basic eDp5\r\nX-Http-Method-Override: DELETE\r\nX-Original-Url: /api/v2.0/users\r\nConnection: Authorization, X-Hop\r\nX-Hop: 1\r\n\r\n")
	seen := w.harbor.seen()
	if len(seen) != 1 {
		t.Fatalf("%d requests", len(seen))
	}
	for _, header := range []string{"Cookie", "X-Forwarded-Host", "X-Forwarded-For", "Forwarded", "Proxy-Authorization", "X-Http-Method-Override", "X-Original-Url", "X-Hop"} {
		if value := seen[0].Header.Get(header); value != "" {
			t.Errorf("Harbor saw %s: %s", header, value)
		}
	}
	w.harbor.answer(func(http.ResponseWriter, *http.Request) {})
	w.inside("demo", "PATCH /v2/test/abc/blobs/uploads/1 HTTP/1.1\r\nHost: harbor.example.com\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n1\r\na\r\n0\r\nAuthorization: Basic eDp5\r\n\r\n")
	if seen := w.harbor.seen(); len(seen) != 1 || len(seen[0].Trailer) > 0 {
		t.Errorf("Harbor saw the trailer: %v", seen)
	}
}

func TestPlaintextInsideIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	status, c := w.dial("demo", harborAt)
	if status != 200 {
		t.Fatal(status)
	}
	if a := w.say(c, pull+"Host: harbor.example.com\r\n\r\n"); a.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", a.StatusCode)
	}
	if seen := w.harbor.seen(); len(seen) > 0 {
		t.Errorf("Harbor saw %d requests", len(seen))
	}
}

func TestServerName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, good := range map[string]bool{harborHost: true, "HARBOR.example.com": true, evilHost: false, "x." + harborHost: false, "example.com": false} {
		_, c := w.dial("demo", harborAt)
		secured := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if err := secured.Handshake(); (err == nil) != good {
			t.Errorf("SNI '%s': %v", name, err)
		}
	}
	w.log.has(t, ReasonHostMismatch)
	// One that resumes a session of another tunnel says who it means, too.
	sessions := tls.NewLRUClientSessionCache(8)
	for _, name := range []string{harborHost, harborHost} {
		_, c := w.dial("demo", harborAt)
		secured := tls.Client(c, &tls.Config{RootCAs: w.bundle, ServerName: name, ClientSessionCache: sessions})
		if err := secured.Handshake(); err != nil {
			t.Error(err)
		}
		w.say(secured, pull+"Host: harbor.example.com\r\n\r\n") // reads the ticket
	}
	state, ok := sessions.Get(harborHost)
	if !ok {
		t.Fatal("no session to resume")
	}
	sessions.Put(evilHost, state)
	_, c := w.dial("demo", harborAt)
	if err := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: evilHost, ClientSessionCache: sessions}).Handshake(); err == nil {
		t.Error("a resumed session is taken for another name")
	}
}

// What is no host and port is refused, and nothing is resolved or dialled for it.
func TestTargets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for target, status := range map[string]int{
		"HARBOR.Example.com.:443":     200,
		"evil.example.net:443":        200,
		"harbor.example.com":          400,
		"harbor.example.com:":         400,
		"harbor.example.com:99999":    400,
		"user@harbor.example.com:443": 400,
		"[harbor.example.com]:443":    400,
		"0177.0.0.1:443":              400,
		"0x7f000001:443":              400,
		"2130706433:443":              400,
		"127.1:443":                   400,
		"127.0.0.1:443":               403,
		"127.0.0.1.:443":              403,
		"[::1]:443":                   403,
		"[::ffff:127.0.0.1]:443":      403,
		"[::ffff:a9fe:a9fe]:80":       403,
		"169.254.169.254:80":          403,
		"[fd00:ec2::254]:80":          403,
		"[fe80::1]:443":               403,
		"0.0.0.0:3128":                403,
		"10.96.0.9:3128":              403, // Berth itself
		"nowhere.example:443":         502,
		"203.0.115.77:443":            502,
	} {
		if got, c := w.dial("demo", target); got != status {
			body, _ := io.ReadAll(io.LimitReader(c.reader, 300))
			t.Errorf("CONNECT %s: %d, want %d: %s", target, got, status, body)
		}
	}
	_, dialled := w.net.asked()
	for _, address := range dialled {
		if address != "203.0.115.2:443" && address != "203.0.115.77:443" {
			t.Errorf("dialled %s", address)
		}
	}
}

// A name that leads to a good address first, and to the proxy's own loopback when it is asked again, is resolved once for
// each tunnel: what was looked at is what is dialled.
func TestRebinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.net.next["rebind.example."] = []string{"127.0.0.1", "169.254.169.254"}
	w.net.names["rebind.example."] = []string{"127.0.0.1", "203.0.115.2", "169.254.169.254"}
	for i, want := range []int{http.StatusOK, http.StatusForbidden} {
		if status, _ := w.dial("demo", "rebind.example:443"); status != want {
			t.Errorf("tunnel %d: %d, want %d", i, status, want)
		}
	}
	if resolved, dialled := w.net.asked(); len(resolved) != 2 || len(dialled) != 1 || dialled[0] != "203.0.115.2:443" {
		t.Errorf("resolved %v, dialled %v", resolved, dialled)
	}
}

// A header without end, or one that is too long, is not read to its end.
func TestEndlessHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, more := range map[string]string{
		"one line":   "X: " + strings.Repeat("a", mostHeader+8192),
		"many lines": strings.Repeat("X: a\r\n", mostHeader/4),
	} {
		status, c := w.raw("CONNECT " + harborAt + " HTTP/1.1\r\nHost: x\r\n" + more) // and no end
		if status != http.StatusRequestHeaderFieldsTooLarge || !c.response.Close {
			t.Errorf("%s: %d, close %t", name, status, c.response.Close)
		}
	}
}

// Where the Connector's scheme or port is another, there is no credential: the tunnel is as any.
func TestAnotherSchemeOrPortGetsNoCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.net.names[harborHost+"."] = []string{"203.0.115.2"}
	w.net.to["203.0.115.2:8443"] = w.evil.address()
	w.get(w.client("demo"), "http://"+harborHost+"/v2/test/abc/manifests/v1")
	client := w.client("demo")
	w.get(client, "https://"+harborHost+":8443/v2/test/abc/manifests/v1")
	seen := w.evil.seen()
	if len(seen) != 2 {
		t.Fatalf("%d requests", len(seen))
	}
	for _, r := range seen {
		if len(r.Header["Authorization"]) > 0 {
			t.Errorf("with %v", r.Header)
		}
	}
}

// A redirect goes to the client, who follows it without our credential.
func TestRedirectsTakeNoCredentialAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.harbor.answer(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://"+evilHost+"/blob?signature=1", http.StatusTemporaryRedirect)
	})
	client := w.client("demo")
	client.CheckRedirect = nil
	if a := w.get(client, "https://"+harborHost+"/v2/test/abc/manifests/v1"); a.body != "evil" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if seen := w.evil.seen(); len(seen) != 1 || len(seen[0].Header["Authorization"]) > 0 {
		t.Errorf("the other server saw %v", seen)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other, _, _, _ := token.Keys{}.Step(w.now.Add(-2*time.Hour), token.Rotation{Every: 24 * time.Hour, Keep: 24 * time.Hour})
	forged, _ := other.Sign(w.now, token.Claims{Namespace: "demo", NamespaceUID: "uid-demo", Audience: token.AudienceProxy, IssuedAt: w.now.Add(-time.Hour), Expires: w.now.Add(time.Hour)})
	for name, tc := range map[string]struct {
		authorization, reason string
	}{
		"none":              {"", ReasonNoToken},
		"no password":       {w.basic("berth", ""), ReasonNoToken},
		"another scheme":    {"Negotiate abc", ReasonNoToken},
		"nonsense":          {w.basic("berth", "nonsense"), ReasonTokenRefused},
		"of audience pull":  {w.basic("berth", w.token("demo", func(c *token.Claims) { c.Audience = token.AudiencePull })), ReasonTokenRefused},
		"expired":           {w.basic("berth", w.token("demo", func(c *token.Claims) { c.Expires = w.now.Add(-time.Minute) })), ReasonTokenRefused},
		"of another key":    {w.basic("berth", forged), ReasonTokenRefused},
		"namespace is gone": {w.basic("berth", w.token("gone")), ReasonNamespaceGone},
		"namespace is anew": {w.basic("berth", w.token("demo", func(c *token.Claims) { c.NamespaceUID = "older" })), ReasonNamespaceGone},
		"too long":          {w.basic("berth", strings.Repeat("a", 20_000)), ReasonTokenRefused},
	} {
		header := ""
		if tc.authorization != "" {
			header = "Proxy-Authorization: " + tc.authorization + "\r\n"
		}
		for _, line := range []string{"CONNECT " + harborAt, "CONNECT " + evilAt, "GET http://plain.example.net/", "GET /"} {
			status, c := w.raw(line + " HTTP/1.1\r\nHost: x\r\n" + header + "\r\n")
			if status != http.StatusProxyAuthRequired || c.response.Header.Get("Proxy-Authenticate") == "" || !c.response.Close {
				t.Errorf("%s, %s: %d %v, close %t", name, line, status, c.response.Header, c.response.Close)
			}
		}
		w.log.has(t, tc.reason)
	}
	if resolved, dialled := w.net.asked(); len(resolved)+len(dialled) > 0 {
		t.Errorf("resolved %v, dialled %v", resolved, dialled)
	}
}

// A client that shows bad tokens without end is told to wait, and a good one beside it is not.
func TestFailuresAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	last := 0
	for range 60 {
		last, _ = w.raw("CONNECT " + harborAt + " HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + w.basic("berth", "nonsense") + "\r\n\r\n")
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("status %d after 60 bad tokens", last)
	}
	if status, _ := w.dial("demo", harborAt); status != 200 {
		t.Errorf("a good token: %d", status)
	}
}

// What is withdrawn is withdrawn within a tunnel that stands: token, namespace, Connector, access.
func TestRevocationReachesStandingTunnels(t *testing.T) {
	t.Parallel()
	for name, withdraw := range map[string]func(*world){
		"keys":      func(w *world) { w.public.Store(&token.PublicKeys{}) },
		"namespace": func(w *world) { w.namespaces.set("demo", identity.Namespace{UID: "uid-anew"}) },
		"Connector": func(w *world) { w.catalogue.Delete(named("demo", "harbor")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, c := w.dial("demo", harborAt)
			secured, err := w.secure(c, harborHost)
			if err != nil {
				t.Fatal(err)
			}
			if a := w.say(secured, pull+"Host: harbor.example.com\r\n\r\n"); a.StatusCode != 404 {
				t.Errorf("before: %d", a.StatusCode)
			}
			withdraw(w)
			w.harbor.seen()
			if a := w.say(secured, pull+"Host: harbor.example.com\r\n\r\n"); a.StatusCode != 403 || !a.Close {
				t.Errorf("after: %d, close %t", a.StatusCode, a.Close)
			}
			if seen := w.harbor.seen(); len(seen) > 0 {
				t.Errorf("Harbor saw %d requests", len(seen))
			}
		})
	}
}

func TestLimitsOfTunnels(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Tunnels, o.PerNamespace = 3, 2 })
	var standing []*tunnelled
	for i, want := range []struct {
		namespace, target string
		status            int
	}{
		{"demo", evilAt, 200}, {"demo", harborAt, 200}, {"demo", evilAt, 503}, {"team", evilAt, 200}, {"stranger", evilAt, 503},
	} {
		status, c := w.dial(want.namespace, want.target)
		if status != want.status {
			t.Errorf("%d: %d, want %d", i, status, want.status)
		}
		standing = append(standing, c)
	}
	for _, c := range standing {
		_ = c.Close()
	}
	// Their places are free again, those of tunnels that were refused or never came about too.
	w.dial("demo", "127.0.0.1:443")
	if !eventually(func() bool {
		status, c := w.dial("demo", harborAt)
		_ = c.Close()
		return status == 200
	}) {
		t.Error("no place is given back")
	}
	if !eventually(func() bool {
		w.proxy.places.mu.Lock()
		defer w.proxy.places.mu.Unlock()
		return w.proxy.places.taken == 0
	}) {
		t.Errorf("%d places are taken", w.proxy.places.taken)
	}
}

// 10,000 clients that want a tunnel at once get one, or are told to wait; none costs another's.
func TestManyTunnels(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Tunnels, o.PerNamespace = 20, 20 })
	var all sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	head := "CONNECT " + evilAt + " HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + w.basic("berth", w.token("demo")) + "\r\n\r\n"
	for range 50 {
		all.Go(func() {
			for range 200 {
				status, c := w.raw(head)
				_ = c.Close()
				mu.Lock()
				statuses[status]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if statuses[200]+statuses[503] != 10_000 || statuses[200] == 0 {
		t.Errorf("statuses %v", statuses)
	}
}

func TestSlowAndSilentClientsAreLetGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Silence = 50 * time.Millisecond })
	// Headers that never end.
	conn, err := net.Dial("tcp", w.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "CONNECT harbor.example.com:443 HTTP/1.1\r\nX-Slow:")
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if rest, err := io.ReadAll(conn); err != nil {
		t.Errorf("slow headers: %q, %v", rest, err)
	}
	// A tunnel left idle.
	status, c := w.dial("demo", evilAt)
	if status != 200 {
		t.Fatal(status)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("idle tunnel: %q, %v", rest, err)
	}
	w.log.has(t, ReasonSilent)
}

// broken is an Upstream that panics.
type broken struct{ Upstream }

func (broken) RoundTrip(*access.Connector, *http.Request, ...bearer.Scope) (*http.Response, error) {
	panic("broken on purpose")
}

// A panic ends its connection, and nothing else.
func TestPanics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Upstream = broken{o.Upstream} })
	client := w.client("demo")
	for range 2 {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+harborHost+"/v2/test/abc/manifests/v1", strings.NewReader("x"))
		if response, err := client.Do(r); err == nil {
			_ = response.Body.Close()
			t.Errorf("status %d", response.StatusCode)
		}
	}
	if a := w.get(client, "https://"+harborHost+"/v2/"); a.StatusCode != 200 {
		t.Errorf("after it: %d", a.StatusCode)
	}
}

// Answers of Harbor's stand-in that are hostile.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, text := range map[string]string{
		"two lengths":         "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"a 407":               "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"berth\"\r\nContent-Length: 0\r\n\r\n",
		"another protocol":    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
		"headers without end": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"not HTTP":            "220 smtp.example.com\r\n",
		"nothing":             "",
	} {
		w.harbor.answer(func(rw http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(rw).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, text)
				_ = conn.Close()
			}
		})
		for range 2 {
			a := w.do(w.client("demo", func(t *http.Transport) { t.ForceAttemptHTTP2 = false }), http.MethodGet, "https://"+harborHost+"/v2/test/abc/manifests/v1", nil)
			if a.StatusCode != http.StatusBadGateway || a.Header.Get("Proxy-Authenticate") != "" {
				t.Errorf("%s: %d %v", name, a.StatusCode, a.Header)
			}
		}
	}
	w.harbor.answer(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Trailer", "X-Secret")
		_, _ = io.WriteString(rw, "body")
		rw.Header().Set("X-Secret", "1")
	})
	if a := w.get(w.client("demo"), "https://"+harborHost+"/v2/test/abc/manifests/v1"); len(a.Trailer) > 0 || a.body != "body" {
		t.Errorf("trailer %v came down, body '%s'", a.Trailer, a.body)
	}
}

// Another host that plays proxy learns no token, by a tunnel or in clear.
func TestA407OfAnotherHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.evil.answer(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Proxy-Authenticate", `Basic realm="berth"`)
		rw.WriteHeader(http.StatusProxyAuthRequired)
	})
	if a := w.get(w.client("demo"), "http://plain.example.net/"); a.StatusCode != http.StatusBadGateway || a.Header.Get("Proxy-Authenticate") != "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	if len(w.evil.seen()) != 1 {
		t.Error("it was asked more than once")
	}
}

// Until the Connector's authority is there, a client is told to wait: a tunnel would show it Harbor's 401.
func TestWithoutAnAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.connect("demo", "new", "https://"+evilHost)
	namesake, _, _, err := certs.Authorities{}.Step("namesake", certs.Scope{Domains: []string{evilHost}}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	w.options.Authorities.Use(c.Connector, "a-deleted-namesake", namesake)
	if status, _ := w.dial("demo", evilAt); status != http.StatusServiceUnavailable {
		t.Errorf("of a namesake: %d", status)
	}
	w.options.Authorities.Forget(c.Connector)
	if status, c := w.dial("demo", evilAt); status != http.StatusServiceUnavailable || c.response.Header.Get("Retry-After") == "" {
		t.Errorf("none: %d", status)
	}
	w.log.has(t, ReasonAuthorityPending)
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy.Mode = egress.Connectors
	for target, status := range map[string]int{evilAt: 403, harborAt: 200} {
		if got, _ := w.dial("demo", target); got != status {
			t.Errorf("%s: %d, want %d", target, got, status)
		}
	}
	if got, _ := w.dial("stranger", harborAt); got != 403 {
		t.Errorf("a stranger: %d", got)
	}
	if a := w.get(w.client("demo"), "http://plain.example.net/"); a.StatusCode != 403 {
		t.Errorf("plain: %d", a.StatusCode)
	}
	w.policy.Mode = egress.Public
	for _, target := range []string{"10.0.0.1:443", "[fd00::1]:443", "[::ffff:192.168.0.1]:443"} {
		if got, _ := w.dial("demo", target); got != 403 {
			t.Errorf("%s: %d, want 403", target, got)
		}
	}
	w.log.has(t, ReasonEgressRefused)
	if resolved, dialled := w.net.asked(); len(resolved)+len(dialled) > 0 {
		t.Errorf("resolved %v, dialled %v", resolved, dialled)
	}
}

// A client that does not wait for its tunnel loses nothing.
func TestEarlyBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.net.names["echo.example."] = []string{"203.0.115.9"}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
	}()
	w.net.to["203.0.115.9:7"] = listener.Addr().String()
	status, c := w.dial("demo", "echo.example:7", "\r\nearly bytes")
	if status != 200 {
		t.Fatal(status)
	}
	got := make([]byte, len("early bytes\r\n"))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "early bytes\r\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// Shutdown lets a request within a tunnel end, and closes what is silent or stays.
func TestShutdown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begun, finish := make(chan struct{}), make(chan struct{})
	w.harbor.answer(func(rw http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		_, _ = io.WriteString(rw, "late")
	})
	answers := make(chan string, 1)
	go func() {
		defer close(answers)
		answers <- w.get(w.client("demo"), "https://"+harborHost+"/v2/test/abc/manifests/v1").body
	}()
	<-begun
	status, blind := w.dial("demo", evilAt)
	if status != 200 {
		t.Fatal(status)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- w.proxy.Shutdown(ctx) }()
	if !eventually(func() bool {
		status, _ := w.dial("demo", evilAt)
		return status == 503
	}) {
		t.Error("new tunnels are made")
	}
	w.log.has(t, ReasonEnding)
	close(finish)
	if got := <-answers; got != "late" {
		t.Errorf("answer '%s'", got)
	}
	cancel()
	if rest, err := io.ReadAll(blind); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	if err := <-ended; err == nil {
		t.Error("Shutdown does not say that a tunnel was left")
	}
}

func TestPlainRequestsThatAreNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for line, status := range map[string]int{
		"GET /":                                400,
		"GET https://harbor.example.com/v2/":   400,
		"GET ftp://plain.example.net/":         400,
		"GET http://a:b@plain.example.net/":    400,
		"GET http://127.0.0.1/":                403,
		"GET http://169.254.169.254/latest":    403,
		"GET http://[::ffff:169.254.169.254]/": 403,
		"GET http://0177.0.0.1/":               400,
		"GET http://nowhere.example/":          502,
	} {
		got, _ := w.raw(line + " HTTP/1.1\r\nHost: plain.example.net\r\nProxy-Authorization: " + w.basic("berth", w.token("demo")) + "\r\n\r\n")
		if got != status {
			t.Errorf("%s: %d, want %d", line, got, status)
		}
	}
	if _, dialled := w.net.asked(); len(dialled) > 0 {
		t.Errorf("dialled %s", strconv.Quote(strings.Join(dialled, " ")))
	}
}
