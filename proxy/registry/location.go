package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/proxy/upstream"
)

// errAround is for a Location that would lead clients around Berth, or nowhere.
var errAround = errors.New("its Location header leads to where Berth does not follow")

// localise makes the Link and Location of a response lead to Berth.
func localise(r *http.Response, c *access.Connector, t Target) error {
	err := relocate(r, c, t)
	if err == nil {
		err = relink(r, t)
	}
	if err != nil {
		return &upstream.Error{Registry: c.Registry, Reason: v1alpha1.ReasonUnexpectedAnswer, Detail: err.Error(), Status: r.StatusCode}
	}
	return nil
}

// relocate makes the Location of a response lead to Berth. Of something that
// was made, it tells the client nothing new: where it is no good there, it is
// written anew or left out, for the work is done.
func relocate(r *http.Response, c *access.Connector, t Target) error {
	location := r.Header.Get("Location")
	if location == "" {
		return nil
	}
	local, err := relocated(location, r.Request.URL, c, t)
	if err != nil && r.StatusCode != http.StatusCreated {
		return err
	}
	made := t
	made.Reference = r.Header.Get("Docker-Content-Digest")
	if t.Kind != endpoint.KindManifests {
		made.Kind = endpoint.KindBlobs
	}
	switch {
	case err == nil:
		r.Header.Set("Location", local)
	case endpoint.IsDigest(made.Reference):
		r.Header.Set("Location", made.Path())
	default:
		r.Header.Del("Location")
	}
	return nil
}

// relocated returns a Location as a client of Berth can follow it. Bytes of
// paths and queries are kept, for registries sign them.
//
// A place in the registry's API becomes the same place at Berth, without a host:
// clients reach Berth by several names and addresses, and all resolve it against
// the one that they asked. Where an upload goes on, only its name counts, since
// registries behind proxies get their own scheme, port and path wrong; it may
// never lead to the registry itself. Another place, such as object storage,
// stays: clients go there without any credential.
func relocated(location string, requested *url.URL, c *access.Connector, t Target) (string, error) {
	to, err := requested.Parse(location)
	if err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Hostname() == "" {
		return "", fmt.Errorf("%w: it is no address", errAround)
	}
	if _, err := url.Parse(to.String()); err != nil { // '//::' parses, and what it resolves to does not
		return "", fmt.Errorf("%w: it is no address", errAround)
	}
	if !sameName(to, c.Address) {
		return to.String(), nil
	}
	rest, inAPI := strings.CutPrefix(to.EscapedPath(), c.Address.EscapedPath()+endpoint.Prefix)
	local, err := ParsePath(endpoint.Prefix + c.Format() + "/" + rest)
	ok := inAPI && err == nil
	if !ok && t.Kind.IsUploads() {
		local, ok = goesOn(to.EscapedPath(), t)
	}
	switch here := samePort(to, c.Address); {
	case ok && (here || t.Kind.IsUploads()):
		if to.RawQuery != "" {
			return local.Path() + "?" + to.RawQuery, nil
		}
		return local.Path(), nil
	case inAPI && here, t.Kind.IsUploads():
		return "", errAround
	}
	to.User = nil
	return to.String(), nil
}

// goesOn returns the upload in the same repository that a path of the registry leads to.
func goesOn(path string, t Target) (Target, bool) {
	name := path[strings.LastIndexByte(path, '/')+1:]
	for _, kind := range [...]endpoint.Kind{endpoint.KindUploads, endpoint.KindGitHubUploads} {
		local := Target{t.Connector, endpoint.Endpoint{Repository: t.Repository, Kind: kind, Reference: name}}
		if endpoint.IsUpload(name) && strings.HasSuffix(path, "/"+local.Rest()) {
			return local, true
		}
	}
	segments := strings.Split(path, "/")
	if len(segments) != 8 {
		return Target{}, false
	}
	local, err := googleUpload(t.Connector, t.Repository, strings.Join([]string{segments[3], segments[5], segments[7]}, googleJoint))
	return local, err == nil && local.UpstreamPath() == path
}

// sameName reports whether both lead to the same host.
func sameName(a, b *url.URL) bool {
	return strings.EqualFold(strings.TrimSuffix(a.Hostname(), "."), strings.TrimSuffix(b.Hostname(), "."))
}

// samePort reports whether both lead to the same port. A registry behind a
// proxy of its own may believe that its scheme is http.
func samePort(a, b *url.URL) bool { return a.Port() == b.Port() || port(a) == port(b) }

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

// relink makes the Link to the next page lead to Berth, and removes all others from a list.
func relink(r *http.Response, t Target) error {
	links := r.Header.Values("Link")
	if len(links) == 0 || !isList(t.Kind) {
		return nil
	}
	next, err := nextPage(links, t)
	if err != nil {
		return err
	}
	r.Header.Del("Link")
	if next != "" {
		r.Header.Set("Link", "<"+next+`>; rel="next"`)
	}
	return nil
}

// nextPage returns the target of the link whose relation is 'next' (RFC 8288),
// at Berth. The next page is always one of the same list, so only its query is
// taken over: registries behind proxies get their own path and host wrong.
func nextPage(links []string, t Target) (string, error) {
	for _, link := range links {
		_, rest, _ := strings.Cut(link, "<")
		target, attributes, ok := strings.Cut(rest, ">")
		if !ok || !strings.Contains(strings.ReplaceAll(attributes, `"`, ""), "rel=next") {
			continue
		}
		_, raw, _ := strings.Cut(target, "?")
		values, err := url.ParseQuery(raw)
		if err != nil {
			return "", errors.New("the query of its Link header does not parse")
		}
		kept := knownOf(t.Kind, raw)
		if again, _ := url.ParseQuery(kept); len(again) != len(values) {
			return "", fmt.Errorf("its Link header to the next page has parameters that Berth does not forward; Berth forwards %s", strings.Join(parameters(t.Kind), ", "))
		}
		return t.Path() + "?" + kept, nil
	}
	return "", nil
}
