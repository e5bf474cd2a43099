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
	"berth.dev/berth/route"
)

// KindAPI is what a path of the server's own API is about. Such a path is
//
//	/namespaces/NS/connectors/NAME/<path>
//
// and leads to <path> below the Connector's address, where the Connector's class
// opens it (see access.Class). The target's Reference is that path.
const KindAPI endpoint.Kind = "api"

const (
	serverPrefix = "/namespaces/"
	// encodedSlash is how Harbor wants a slash within a segment.
	encodedSlash = "%252F"
)

// parseAPI reads the path of a request for a server's own API; what of it is good is for the class to say.
func parseAPI(path string) (Target, error) {
	connector, rest, err := route.Cut(path[1:])
	if err != nil {
		return Target{}, fmt.Errorf("%w: %w", endpoint.ErrNone, err)
	}
	if rest == "" {
		return Target{}, fmt.Errorf("%w: '%s' goes no further than the Connector", endpoint.ErrNone, path)
	}
	return Target{connector, endpoint.Endpoint{Kind: KindAPI, Reference: "/" + rest}}, nil
}

// openAPI asks the Connector's class.
func (x *exchange) openAPI() *refusal {
	class := x.Catalogue.Class(x.connector.Spec.ConnectorClassName)
	err := class.Check(x.request.Method, x.target.Reference)
	if err == nil {
		return nil
	}
	no := &refusal{status: http.StatusForbidden, code: CodeDenied, reason: ReasonAPIClosed, message: fmt.Sprintf("%s '%s': %s", x.request.Method, x.target.Reference, err)}
	switch {
	case errors.Is(err, access.ErrAPIPath):
		no.status, no.code, no.reason, no.message = http.StatusNotFound, CodeNameUnknown, ReasonPathInvalid, err.Error()
	case errors.Is(err, access.ErrAPICredentials):
		no.reason = ReasonAPICredentials
	default:
		no.message += fmt.Sprintf("; ConnectorClass '%s' lists in `spec.api` what it opens", class.Name)
	}
	return no
}

// apiURL makes the URL of a server's API of a path that the class has checked, byte for byte.
func apiURL(to *url.URL, c *access.Connector, path string) {
	to.Path = c.Address.Path + strings.ReplaceAll(path, encodedSlash, "%2F")
	to.RawPath = c.Address.EscapedPath() + path
}

// localiseAPI makes what an answer of a server's API says about places lead to Berth, or leaves it out.
func localiseAPI(r *http.Response, c *access.Connector) error {
	if location := r.Header.Get("Location"); location != "" {
		local, ok := apiPlace(location, r.Request.URL, c)
		switch {
		case ok:
			r.Header.Set("Location", local)
		case r.StatusCode >= http.StatusMultipleChoices && r.StatusCode < http.StatusBadRequest:
			return &upstream.Error{Registry: c.Registry, Reason: v1alpha1.ReasonUnexpectedAnswer, Detail: errAround.Error(), Status: r.StatusCode}
		default:
			r.Header.Del("Location")
		}
	}
	links := r.Header.Values("Link")
	r.Header.Del("Link")
	for _, link := range links {
		if local := apiLinks(link, r.Request.URL, c); local != "" {
			r.Header.Add("Link", local)
		}
	}
	return nil
}

// apiPlace returns a place in the server's API as a client of Berth reaches it, and one on another host as it is.
func apiPlace(place string, requested *url.URL, c *access.Connector) (string, bool) {
	to, err := requested.Parse(place)
	if err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Hostname() == "" {
		return "", false
	}
	if !sameName(to, c.Address) {
		return to.String(), true
	}
	path, below := strings.CutPrefix(to.EscapedPath(), c.Address.EscapedPath())
	// A class that opens nothing still tells a path that is none.
	if !below || errors.Is((&access.Class{}).Check(http.MethodGet, path), access.ErrAPIPath) {
		return "", false
	}
	local := Target{c.Connector, endpoint.Endpoint{Kind: KindAPI, Reference: path}}.Path()
	if to.RawQuery != "" {
		local += "?" + to.RawQuery
	}
	return local, true
}

// apiLinks returns a Link header (RFC 8288) of which each target is a place at Berth; others are left out.
func apiLinks(link string, requested *url.URL, c *access.Connector) string {
	var kept []string
	for {
		_, rest, ok := strings.Cut(link, "<")
		target, attributes, closed := strings.Cut(rest, ">")
		if !ok || !closed {
			return strings.Join(kept, ", ")
		}
		link = ""
		if at := strings.IndexByte(attributes, '<'); at >= 0 {
			attributes, link = attributes[:at], attributes[at:]
		}
		if local, ok := apiPlace(target, requested, c); ok && strings.HasPrefix(local, serverPrefix) {
			kept = append(kept, "<"+local+">"+strings.TrimRight(attributes, ", "))
		}
	}
}
