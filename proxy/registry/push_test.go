package registry

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"berth.dev/berth/access"
	"berth.dev/berth/bearer"
	"berth.dev/berth/proxy/upstream"
)

// TestPushAndDelete: what goes in through Berth comes out straight from the registry, and is gone when it was deleted.
func TestPushAndDelete(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	through := []remote.Option{remote.WithTransport(w.front.Client().Transport), remote.WithAuth(&authn.Basic{Username: "anyone", Password: w.token("demo", forProxies)})}
	straight := []remote.Option{remote.WithTransport(w.registry.server.Client().Transport), remote.WithAuth(&authn.Basic{Username: username, Password: password})}
	at := func(s string) name.Reference {
		ref, err := name.ParseReference(s)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	index, err := random.Index(200<<10, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(at(host(w.front)+"/namespaces/demo/connectors/harbor/team/app:v1"), index, through...); err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Index(at(host(w.registry.server)+"/team/app:v1"), straight...)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(pulled); err != nil {
		t.Error(err)
	}
	want, _ := index.Digest()
	if got, _ := pulled.Digest(); got != want {
		t.Errorf("digest: %s, want %s", got, want)
	}

	subject, _ := random.Image(1<<10, 1)
	digest, _ := subject.Digest()
	size, _ := subject.Size()
	repository := host(w.front) + "/namespaces/demo/connectors/harbor/team/app"
	attached, _ := mutate.Subject(mutate.MediaType(mustImage(t), types.OCIManifestSchema1), v1.Descriptor{MediaType: types.DockerManifestSchema2, Digest: digest, Size: size}).(v1.Image)
	for tag, image := range map[string]v1.Image{":v2": subject, ":signature": attached} {
		if err := remote.Write(at(repository+tag), image, through...); err != nil {
			t.Fatal(err)
		}
	}
	list, err := remote.Referrers(at(repository+"@"+digest.String()).(name.Digest), through...)
	if err != nil {
		t.Fatal(err)
	}
	if m, _ := list.IndexManifest(); len(m.Manifests) != 1 {
		t.Errorf("referrers: %+v", m)
	}

	if err := remote.Delete(at(repository+":v2"), through...); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Head(at(host(w.registry.server)+"/team/app:v2"), straight...); err == nil {
		t.Error("what was deleted is still there")
	}
}

func mustImage(t testing.TB) v1.Image {
	t.Helper()
	image, err := random.Image(1<<10, 1)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestPullTokenOnlyPulls(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	for _, test := range []struct{ method, path string }{
		{"POST", "a/blobs/uploads/"},
		{"POST", "a/blobs/uploads/?mount=" + sha256 + "&from=namespaces/demo/connectors/harbor/b"},
		{"PATCH", "a/blobs/uploads/u1"},
		{"PUT", "a/blobs/uploads/u1"},
		{"GET", "a/blobs/uploads/u1"},
		{"DELETE", "a/blobs/uploads/u1"},
		{"PUT", "a/manifests/v1"},
		{"DELETE", "a/manifests/v1"},
		{"DELETE", "a/blobs/" + sha256},
	} {
		got := w.do(w.request(test.method, base+test.path, w.token("demo")))
		if got.StatusCode != http.StatusForbidden || got.code != CodeDenied || !strings.Contains(got.text, "berth-proxy") {
			t.Errorf("%s %s: %d %s", test.method, test.path, got.StatusCode, got.body)
		}
		if reason := w.log.last(t)["reason"]; reason != ReasonTokenForPulls {
			t.Errorf("%s %s: reason %v", test.method, test.path, reason)
		}
	}
	if seen := w.registry.seen(); len(seen) > 0 {
		t.Errorf("the registry heard of it: %s %s", seen[0].Method, seen[0].URL)
	}
}

func TestActionsAreAuthorised(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.registry.answer(answers(200))
	for name, test := range map[string]struct {
		method, path string
		status       int
		reason       any
	}{
		"push":                       {"PUT", "pushed/a/manifests/v1", 200, nil},
		"begin an upload":            {"POST", "pushed/a/blobs/uploads/", 200, nil},
		"cancel an upload":           {"DELETE", "pushed/a/blobs/uploads/u1", 200, nil},
		"pull where push is granted": {"GET", "pushed/a/manifests/v1", 403, ReasonActionRefused},
		"delete":                     {"DELETE", "pushed/a/manifests/v1", 403, ReasonActionRefused},
		"delete a blob":              {"DELETE", "pushed/a/blobs/" + sha256, 403, ReasonActionRefused},
		"push where pull is granted": {"PUT", "test/a/manifests/v1", 403, ReasonActionRefused},
		"upload there":               {"PATCH", "test/a/blobs/uploads/u1", 403, ReasonActionRefused},
		"push elsewhere":             {"PUT", "other/a/manifests/v1", 403, ReasonRepositoryRefused},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.send(test.method, base+test.path, "team", "")
			if got.StatusCode != test.status {
				t.Errorf("answer: %d %s, want %d", got.StatusCode, got.body, test.status)
			}
			if reason := w.log.last(t)["reason"]; reason != test.reason {
				t.Errorf("reason: %v, want %v", reason, test.reason)
			}
			if heard := len(w.registry.seen()) > 0; heard != (test.status == 200) {
				t.Errorf("the registry heard of it: %v", heard)
			}
		})
	}
}

// TestMount: a blob is taken over only from where the caller may pull; else an ordinary upload begins.
func TestMount(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.registry.answer(answers(202))
	const here = "namespaces%2Fdemo%2Fconnectors%2Fharbor%2F"
	for name, test := range map[string]struct{ namespace, query, want string }{
		"granted":               {"demo", "mount=" + sha256 + "&from=" + here + "b", "from=b&mount=" + url.QueryEscape(sha256)},
		"containerd's ns":       {"demo", "ns=x&from=" + here + "b%2Fc&mount=" + sha256, "from=b%2Fc&mount=" + url.QueryEscape(sha256)},
		"granted by a pattern":  {"team", "mount=" + sha256 + "&from=" + here + "test/b", "from=test%2Fb&mount=" + url.QueryEscape(sha256)},
		"not granted":           {"team", "mount=" + sha256 + "&from=" + here + "secret/b", ""},
		"push is no pull":       {"team", "mount=" + sha256 + "&from=" + here + "pushed/b", ""},
		"no source":             {"demo", "mount=" + sha256, ""},
		"empty source":          {"demo", "mount=" + sha256 + "&from=", ""},
		"the registry's name":   {"demo", "mount=" + sha256 + "&from=b", ""},
		"another Connector":     {"demo", "mount=" + sha256 + "&from=namespaces/demo/connectors/other/b", ""},
		"two sources":           {"team", "mount=" + sha256 + "&from=" + here + "test/b&from=" + here + "secret/b", ""},
		"two sources, encoded":  {"team", "mount=" + sha256 + "&from=" + here + "test/b&%66rom=secret/b", ""},
		"two sources, ;":        {"team", "mount=" + sha256 + "&from=" + here + "test/b;from=secret/b", ""},
		"two blobs":             {"team", "mount=" + sha256 + "&mount=x&from=" + here + "test/b", ""},
		"no digest":             {"team", "mount=../../x&from=" + here + "test/b", ""},
		"dot segments":          {"team", "mount=" + sha256 + "&from=" + here + "test/../secret/b", ""},
		"source alone":          {"demo", "from=" + here + "b", ""},
		"ordinary":              {"demo", "", ""},
		"in one request":        {"demo", "digest=" + sha256, "digest=" + url.QueryEscape(sha256)},
		"refused, with digest":  {"team", "mount=" + sha256 + "&from=" + here + "secret/b&digest=" + sha256, "digest=" + url.QueryEscape(sha256)},
		"nothing else is known": {"demo", "_state=x&from=y&Mount=z&origin=https://evil", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.send(http.MethodPost, base+"pushed/a/blobs/uploads/?"+test.query, test.namespace, "")
			if got.StatusCode != http.StatusAccepted {
				t.Fatalf("answer: %d %s", got.StatusCode, got.body)
			}
			seen := w.registry.seen()
			if len(seen) != 1 || seen[0].URL.RawQuery != test.want || seen[0].URL.Path != "/v2/pushed/a/blobs/uploads/" {
				t.Errorf("the registry was asked %s, want query %q", seen[0].URL, test.want)
			}
			if seen[0].Header.Get("Content-Length") == "" && seen[0].ContentLength != 0 {
				t.Errorf("Content-Length: %d", seen[0].ContentLength)
			}
		})
	}
}

// TestScopes: what each request needs of a token service.
func TestScopes(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	asked := make(chan []bearer.Scope, 1)
	o := w.options
	o.Upstream = scoped(func(scopes []bearer.Scope) { asked <- scopes })
	w.serve(o)
	for path, want := range map[string][]bearer.Scope{
		"GET a/b/manifests/v1":        {"repository:a/b:pull"},
		"HEAD a/b/blobs/" + sha256:    {"repository:a/b:pull"},
		"GET a/b/tags/list":           {"repository:a/b:pull"},
		"GET a/b/referrers/" + sha256: {"repository:a/b:pull"},
		"PUT a/b/manifests/v1":        {"repository:a/b:pull,push"},
		"POST a/b/blobs/uploads/":     {"repository:a/b:pull,push"},
		"DELETE a/b/blobs/uploads/u":  {"repository:a/b:pull,push"},
		"DELETE a/b/manifests/v1":     {"repository:a/b:pull,delete"},
		"POST a/b/blobs/uploads/?mount=" + sha256 + "&from=namespaces/demo/connectors/harbor/c": {"repository:a/b:pull,push", "repository:c:pull"},
		"GET _catalog": {"registry:catalog:*"},
	} {
		method, rest, _ := strings.Cut(path, " ")
		w.send(method, base+rest, "demo", "")
		if diff := cmp.Diff(want, <-asked); diff != "" {
			t.Errorf("%s (-want +got)\n%s", path, diff)
		}
	}
}

type scoped func([]bearer.Scope)

func (s scoped) RoundTrip(_ *access.Connector, r *http.Request, scopes ...bearer.Scope) (*http.Response, error) {
	s(scopes)
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"repositories":[]}`)), Request: r}, nil
}

// TestChunks: the request of each step arrives at the registry as it was sent.
func TestChunks(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	type step struct {
		Method, Query, Range, Length, Type string
		Body                               string
	}
	var got []step
	w.registry.answer(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, step{r.Method, r.URL.RawQuery, r.Header.Get("Content-Range"), fmt.Sprint(r.ContentLength), r.Header.Get("Content-Type"), string(body)})
		rw.WriteHeader(http.StatusAccepted)
	})
	const octets = "application/octet-stream"
	for _, send := range []struct {
		step
		chunked bool
	}{
		{step{Method: "POST", Length: "0"}, false},
		{step{"PATCH", "_state=a%2Bb%3d%3D&x", "0-3", "4", octets, "abcd"}, false},
		{step{"PATCH", "_state=%e2%82%ac;x=1", "", "-1", octets, "efgh"}, true},
		{step{"PUT", "digest=sha256%3Aabc", "", "0", "", ""}, false},
		{step{"GET", "_state=1", "", "0", "", ""}, false},
		{step{"DELETE", "", "", "0", "", ""}, false},
	} {
		path := base + "a/blobs/uploads/"
		if send.Method != "POST" {
			path += "u1?" + send.Query + "&ns=c-harbor.demo.svc"
		}
		r := w.request(send.Method, strings.Replace(path, "?&", "?", 1), w.token("demo", forProxies))
		if send.Body != "" {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(send.Body)), int64(len(send.Body))
		}
		if send.chunked {
			r.ContentLength = -1
		}
		if send.Range != "" {
			r.Header.Set("Content-Range", send.Range)
		}
		if send.Type != "" {
			r.Header.Set("Content-Type", send.Type)
		}
		got = nil
		w.do(r)
		if diff := cmp.Diff([]step{send.step}, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

// TestExpectContinue: a client that asks first is told to go on by the registry alone.
func TestExpectContinue(t *testing.T) {
	for name, test := range map[string]struct {
		registry http.HandlerFunc
		path     string
		goesOn   bool
		status   int
	}{
		"wanted": {func(rw http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			if n != 4 {
				rw.WriteHeader(http.StatusTeapot)
				return
			}
			rw.WriteHeader(http.StatusCreated)
		}, base + "a/blobs/uploads/u1", true, 201},
		"refused by the registry": {answers(http.StatusRequestEntityTooLarge), base + "a/blobs/uploads/u1", false, 413},
		"refused here":            {answers(http.StatusCreated), "/v2/namespaces/demo/connectors/nope/a/blobs/uploads/u1", false, 404},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, upstream.Timeouts{})
			w.registry.answer(test.registry)
			r := w.request(http.MethodPut, test.path, w.token("demo", forProxies))
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("body")), 4
			r.Header.Set("Expect", "100-continue")
			transport := w.front.Client().Transport.(*http.Transport)
			transport.ExpectContinueTimeout = time.Hour
			continued := false
			trace := &httptrace.ClientTrace{Got100Continue: func() { continued = true }}
			got := w.do(r.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
			if got.StatusCode != test.status || continued != test.goesOn {
				t.Errorf("answer: %d %s, told to go on: %v; want %d, %v", got.StatusCode, got.body, continued, test.status, test.goesOn)
			}
		})
	}
}

// TestAnswerComesEarly: a registry that refuses a body before it has read it is heard at once, by a client that has
// not sent everything yet and waits.
func TestAnswerComesEarly(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	for _, status := range []int{http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusNotFound} {
		w.registry.answer(answers(status))
		body, more := io.Pipe()
		r := w.request(http.MethodPatch, base+"a/blobs/uploads/u1", w.token("demo", forProxies))
		r.Body, r.ContentLength = body, 1<<30
		go func() { _, _ = more.Write(make([]byte, 64<<10)) }()
		if got := w.do(r); got.StatusCode != status {
			t.Errorf("answer: %d, want %d", got.StatusCode, status)
		}
		more.Close()
	}
}

// TestRefusedCredentialMidPush: a refusal of the Connector's credential is none of the client's.
func TestRefusedCredentialMidPush(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.registry.demand("another")
	if got := w.send(http.MethodPut, base+"a/manifests/v1", "demo", "{}"); got.StatusCode != http.StatusBadGateway {
		t.Errorf("answer: %d %s", got.StatusCode, got.body)
	}
}

// TestClientStopsSending: one that stands still in the middle, and one that sends a byte now and then.
func TestClientStopsSending(t *testing.T) {
	for name, drip := range map[string]bool{"silent": false, "dripping": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, upstream.Timeouts{})
			w.options.Patience = 200 * time.Millisecond
			w.serve(w.options)
			broken := make(chan error, 1)
			w.registry.answer(func(_ http.ResponseWriter, r *http.Request) {
				_, err := io.Copy(io.Discard, r.Body)
				broken <- err
			})
			body, more := io.Pipe()
			defer more.Close()
			go func() {
				_, _ = more.Write([]byte("begun"))
				pace := time.NewTicker(20 * time.Millisecond)
				defer pace.Stop()
				for drip {
					<-pace.C
					if _, err := more.Write([]byte(".")); err != nil {
						return
					}
				}
			}()
			r := w.request(http.MethodPatch, base+"a/blobs/uploads/u1", w.token("demo", forProxies))
			r.Body, r.ContentLength = body, 1<<20
			if response, err := w.front.Client().Do(r); err == nil {
				response.Body.Close()
				if response.StatusCode != http.StatusRequestTimeout {
					t.Errorf("answer: %d", response.StatusCode)
				}
			}
			select {
			case err := <-broken:
				if err == nil {
					t.Error("the registry believes that the body is whole")
				}
			case <-time.After(5 * time.Second):
				t.Error("the registry waits for ever")
			}
			if line := w.log.last(t); line["reason"] != ReasonClientStalled {
				t.Errorf("log: %v", line)
			}
		})
	}
}

func TestClientLeavesMidPush(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	arrived, broken := make(chan struct{}), make(chan error, 1)
	w.registry.answer(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 4))
		close(arrived)
		_, err := io.Copy(io.Discard, r.Body)
		broken <- err
	})
	c := dial(t, w)
	fmt.Fprintf(c, "PATCH %sa/blobs/uploads/u1 HTTP/1.1\r\nHost: berth\r\nAuthorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\nhalf", base, w.token("demo", forProxies))
	<-arrived
	c.Close()
	select {
	case err := <-broken:
		if err == nil {
			t.Error("the registry believes that the body is whole")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the registry's request goes on without its client")
	}
	if line := w.log.last(t); line["reason"] != ReasonClientGone || line["status"] != float64(statusClientGone) {
		t.Errorf("log: %v", line)
	}
}

// TestRegistryBreaksOffAPush: the client hears of it, on a connection that is good for the next request.
func TestRegistryBreaksOffAPush(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.registry.answer(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 1000))
		panic(http.ErrAbortHandler)
	})
	body := make([]byte, 8<<20)
	_, _ = rand.Read(body)
	r := w.request(http.MethodPatch, base+"a/blobs/uploads/u1", w.token("demo", forProxies))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	response, err := w.front.Client().Do(r)
	if err == nil {
		response.Body.Close()
		if response.StatusCode != http.StatusBadGateway {
			t.Errorf("answer: %d", response.StatusCode)
		}
	}
	w.registry.answer(answers(200))
	if got := w.get(base+"a/manifests/v1", "demo"); got.StatusCode != http.StatusOK {
		t.Errorf("the next request: %d", got.StatusCode)
	}
}

// TestSecondRequestAfterAPush: the deadline of a body is not that of the next request on the connection.
func TestSecondRequestAfterAPush(t *testing.T) {
	w := newWorld(t, upstream.Timeouts{})
	w.options.Patience = 200 * time.Millisecond
	w.serve(w.options)
	w.registry.answer(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-time.After(300 * time.Millisecond) // the registry may take its time
		if r.Context().Err() != nil {
			return
		}
		rw.WriteHeader(http.StatusAccepted)
	})
	c := dial(t, w)
	answers := bufio.NewReader(c)
	for range 3 {
		fmt.Fprintf(c, "PATCH %sa/blobs/uploads/u1 HTTP/1.1\r\nHost: berth\r\nAuthorization: Bearer %s\r\nContent-Length: 4\r\n\r\nbody", base, w.token("demo", forProxies))
		response, err := http.ReadResponse(answers, nil)
		if err != nil || response.StatusCode != http.StatusAccepted {
			t.Fatalf("%v, %v, %s", response, err, w.log)
		}
		<-time.After(300 * time.Millisecond) // the pause itself is what is tested
	}
}
