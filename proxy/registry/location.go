package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/proxy/upstream"
)

// parameters are the query parameters that a registry gets for a kind of path:
// those of the specification, and those by which known registries (Quay, Amazon
// ECR) spell the next page, without which a client would get the first for ever.
// In particular `ns`, which containerd adds, is not among them.
func parameters(kind Kind) []string {
	switch kind {
	case KindTags:
		return []string{"n", "last", "next_page", "nextToken"}
	case KindReferrers:
		return []string{"artifactType", "n", "last", "next_page", "nextToken"}
	default:
		return nil
	}
}

// query returns of a raw query what the registry gets: of each known parameter the first.
func query(kind Kind, raw string) string {
	known := parameters(kind)
	if raw == "" || known == nil {
		return ""
	}
	all, _ := url.ParseQuery(raw) // what does not parse is left out
	kept := url.Values{}
	for _, name := range known {
		if all.Has(name) {
			kept.Set(name, all.Get(name))
		}
	}
	return kept.Encode()
}

// localise makes the Link and Location of a response lead to Berth.
func localise(r *http.Response, c *access.Connector, t Target) error {
	if location := r.Header.Get("Location"); location != "" {
		r.Header.Set("Location", relocated(location, r.Request.URL, c))
	}
	links := r.Header.Values("Link")
	if len(links) == 0 || parameters(t.Kind) == nil {
		return nil
	}
	next, err := nextPage(links, t)
	if err != nil {
		return &upstream.Error{Registry: c.Registry, Reason: v1alpha1.ReasonUnexpectedAnswer, Detail: err.Error(), Status: r.StatusCode}
	}
	r.Header.Del("Link")
	if next != "" {
		r.Header.Set("Link", "<"+next+`>; rel="next"`)
	}
	return nil
}

// relocated returns a Location as a client of Berth can follow it: a place in
// the registry's API becomes the same place at Berth, any other one, such as
// object storage, stays. Bytes are kept: registries sign them.
func relocated(location string, requested *url.URL, c *access.Connector) string {
	to, err := requested.Parse(location)
	if err != nil {
		return location
	}
	rest, inAPI := strings.CutPrefix(to.EscapedPath(), c.Address.EscapedPath()+apiPrefix)
	if !inAPI || !sameHost(to, c.Address) {
		return to.String()
	}
	local := apiPrefix + c.Format() + "/" + rest
	if to.RawQuery != "" {
		local += "?" + to.RawQuery
	}
	return local
}

// sameHost reports whether both lead to the same host and port. A registry
// behind a proxy of its own may believe that its scheme is http.
func sameHost(a, b *url.URL) bool {
	return strings.EqualFold(a.Hostname(), b.Hostname()) && (a.Port() == b.Port() || port(a) == port(b))
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
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
		kept := query(t.Kind, raw)
		if again, _ := url.ParseQuery(kept); len(again) != len(values) {
			return "", fmt.Errorf("its Link header to the next page has parameters that Berth does not forward; Berth forwards %s", strings.Join(parameters(t.Kind), ", "))
		}
		return t.Path() + "?" + kept, nil
	}
	return "", nil
}
