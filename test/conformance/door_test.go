// Package conformance holds Berth against the registries behind it: the same
// requests go straight to a registry and through Berth, and the answers must be
// the same, in status, headers and body, where every Location and Link leads to
// the door that was used.
//
// The suite of the OCI distribution specification runs at both doors too, and
// its outcomes must be the same. Then there are registries that mean ill.
//
// Everything is real and on loopback: see package loopback.
package conformance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"berth.dev/berth/test/loopback"
)

// door is a way to a registry: straight, or through Berth.
type door struct {
	// origin is scheme, host and port, and api the path below which repositories are.
	origin, api string
	// root is where this door's repositories are, so that both doors of a registry find
	// the same; both roots are of one length, for Content-Length is compared.
	root string
	// username and password are what the door demands.
	username, password string
	// tokens: it demands a token for each scope, and breaks off bodies that come without.
	tokens bool
	client *http.Client
}

// The roots.
const (
	rootStraight = "straight"
	rootThrough  = "berthing"
)

// straight is the door of a registry itself.
func straight(s *loopback.Site, r *loopback.Registry) *door {
	address, err := url.Parse(r.Address)
	s.OK(err)
	return &door{
		origin: address.Scheme + "://" + address.Host, api: address.Path + "/v2/", root: rootStraight,
		username: r.Username, password: r.Password, tokens: r.Tokens != nil, client: s.Client(),
	}
}

// answer is what came back for a request.
type answer struct {
	request *http.Request
	status  int
	header  http.Header
	body    []byte
	broken  error // the body ended too early
}

// send sends a request with what the door demands: the password, or a token.
func (d *door) send(r *http.Request) (*answer, error) {
	if !d.tokens {
		r.SetBasicAuth(d.username, d.password)
		return d.sendAsIs(r)
	}
	asking := r.Clone(r.Context())
	asking.Body, asking.ContentLength = http.NoBody, 0
	a, err := d.sendAsIs(asking)
	if err != nil || a.status != http.StatusUnauthorized {
		return a, err
	}
	token, err := d.exchange(r, a.header.Get("Www-Authenticate"))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return d.sendAsIs(r)
}

func (d *door) sendAsIs(r *http.Request) (*answer, error) {
	response, err := d.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return &answer{request: r, status: response.StatusCode, header: response.Header, body: body, broken: err}, nil
}

var parameter = regexp.MustCompile(`(\w+)="([^"]*)"`)

// exchange asks the token service of a challenge for the token that it wants.
func (d *door) exchange(r *http.Request, challenge string) (string, error) {
	query, realm := url.Values{}, ""
	for _, match := range parameter.FindAllStringSubmatch(challenge, -1) {
		switch match[1] {
		case "realm":
			realm = match[2]
		case "service", "scope":
			query.Set(match[1], match[2])
		}
	}
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, realm+"?"+query.Encode(), nil)
	if err != nil {
		return "", err
	}
	request.SetBasicAuth(d.username, d.password)
	a, err := d.sendAsIs(request)
	if err != nil {
		return "", err
	}
	var token struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(a.body, &token); err != nil || token.Token == "" {
		return "", errors.Join(fmt.Errorf("the token service answered %d", a.status), err)
	}
	return token.Token, nil
}

// session is one run of some operations at a door, and a transcript of it.
type session struct {
	*testing.T
	*door

	transcript []entry
	// called are digests that differ between doors, and their names in the transcript.
	called []string
}

// call gives a digest a name in the transcript.
func (s *session) call(digest, name string) {
	s.called = append(s.called, digest, name, url.QueryEscape(digest), name)
}

// entry is an operation as it is compared: what differs between two doors by
// nature, and only that, is replaced by a name in braces.
type entry struct {
	Request string
	Status  int
	Header  map[string]string
	Body    string
	Broken  bool // it ended before the length that was announced
}

// option changes a request.
type option func(*http.Request)

func header(name, value string) option {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// unsized sends the body in chunks, as one whose length is not known.
func unsized(r *http.Request) { r.ContentLength = -1 }

// do sends a request for a path below the door's root, such as
// 'app/tags/list', for one below the API, such as '/app/tags/list', or for a
// Location, and keeps a transcript.
func (s *session) do(method, path string, body []byte, options ...option) *answer {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, s.url(path), bytes.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	if body == nil {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	for _, option := range options {
		option(r)
	}
	a, err := s.send(r)
	if err != nil {
		s.Fatalf("%s %s: %v", method, path, err)
	}
	s.transcript = append(s.transcript, s.entry(a))
	return a
}

func (s *session) url(path string) string {
	switch {
	case strings.Contains(path, "://"):
		return path
	case strings.HasPrefix(path, "/"):
		return s.origin + s.api + path[1:]
	default:
		return s.origin + s.api + s.root + "/" + path
	}
}

// location is where an answer leads, as a client resolves it.
func (s *session) location(a *answer) string {
	s.Helper()
	to, err := a.request.URL.Parse(a.header.Get("Location"))
	if err != nil || a.header.Get("Location") == "" {
		s.Fatalf("%s %s: %d with the Location '%s'", a.request.Method, a.request.URL.Path, a.status, a.header.Get("Location"))
	}
	return to.String()
}

var nextLink = regexp.MustCompile(`^<([^>]*)>; ?rel="?next"?$`)

// next is where the next page is, or nothing.
func (s *session) next(a *answer) string {
	s.Helper()
	match := nextLink.FindStringSubmatch(a.header.Get("Link"))
	if match == nil {
		return ""
	}
	to, err := a.request.URL.Parse(match[1])
	if err != nil {
		s.Fatal(err)
	}
	return to.String()
}

func (s *session) entry(a *answer) entry {
	e := entry{Request: a.request.Method + " " + s.neutral(a.request.URL.String()), Status: a.status, Header: map[string]string{}, Body: s.neutral(string(a.body)), Broken: a.broken != nil}
	for name, values := range a.header {
		switch name {
		case "Date", "Connection": // of the connection and the time of day
		case "Docker-Upload-Uuid":
			e.Header[name] = "{uuid}"
		case "Location":
			e.Header[name] = s.neutral(s.location(a))
		case "Link":
			e.Header[name] = strings.ReplaceAll(s.neutral("<"+s.next(a)+">"), `"`, "")
		default:
			e.Header[name] = s.neutral(strings.Join(values, ", "))
		}
	}
	if a.status == http.StatusNoContent {
		delete(e.Header, "Content-Length") // that it has none is said by the status; RFC 9110 forbids to say it again
	}
	return e
}

var (
	// Distribution's are UUIDs, olareg's random bytes.
	uploadID    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(uploads/)[\w-]{22}\b`)
	pageOf      = regexp.MustCompile(`cache=sha256%3A[0-9a-f]{64}`)
	boundary    = regexp.MustCompile(`(boundary=|\n--|^--)[0-9a-f]{60}\b`) // between the parts of several ranges
	uploadState = regexp.MustCompile(`_state=[^&"]*`)
)

// neutral replaces the door's own addresses and names, and what a registry makes up for an upload.
func (s *session) neutral(text string) string {
	for _, api := range []string{s.origin + s.api, s.api} {
		text = strings.ReplaceAll(text, api+s.root, "{registry}/{root}")
	}
	text = strings.ReplaceAll(text, url.QueryEscape(s.from("")), "{root}%2F")
	text = strings.ReplaceAll(text, s.root, "{root}")
	text = strings.NewReplacer(s.called...).Replace(text)
	text = pageOf.ReplaceAllString(text, "cache={page}")
	text = uploadID.ReplaceAllString(text, "$1{uuid}")
	text = boundary.ReplaceAllString(text, "$1{boundary}")
	return uploadState.ReplaceAllString(text, "_state={state}")
}
