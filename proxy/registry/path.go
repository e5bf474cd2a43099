package registry

import (
	"fmt"
	"net/http"
	"strings"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/route"
)

// The kinds of paths that are of this proxy alone. That of the catalogue is of no
// repository. Uploads at Google go on at a path beside the API.
const (
	KindCatalog       endpoint.Kind = "_catalog"
	KindGoogleUploads endpoint.Kind = "blobs/artifacts-uploads"
)

const (
	// googleUploads are those of Google's Artifact Registry: namespace, repository and upload.
	googleUploads = "/artifacts-uploads/namespaces/%s/repositories/%s/uploads/%s"
	// googleJoint stands between the three at Berth.
	googleJoint = "~"
)

// Target is what a path names.
type Target struct {
	// Connector is the one whose registry is meant.
	Connector route.Connector
	// Endpoint is what of the registry.
	endpoint.Endpoint
}

// ParsePath reads a path as it stood in the request, percent-encoding and all:
//
//	path   = "/v2/" route "/" ( repository "/" endpoint | "_catalog" | google )
//	google = repository "/blobs/artifacts-uploads/" upload "~" upload "~" upload
//
// The route is that of package route, and all else the grammar of package
// endpoint: Path writes what ParsePath reads.
func ParsePath(path string) (Target, error) {
	rest, err := endpoint.Cut(path)
	if err != nil {
		return Target{}, err
	}
	connector, rest, err := route.Cut(rest)
	if err != nil {
		return Target{}, fmt.Errorf("%w: %w", endpoint.ErrNone, err)
	}
	if rest == string(KindCatalog) {
		return Target{connector, endpoint.Endpoint{Kind: KindCatalog}}, nil
	}
	name := strings.LastIndexByte(rest, '/') + 1
	if repository, ok := strings.CutSuffix(rest[:name], "/"+string(KindGoogleUploads)+"/"); ok {
		return googleUpload(connector, repository, rest[name:])
	}
	e, err := endpoint.ParseRest(rest)
	return Target{connector, e}, err
}

// googleUpload returns the upload that three names stand for.
func googleUpload(c route.Connector, repository, names string) (Target, error) {
	e, err := endpoint.ParseRest(repository + "/" + string(endpoint.KindUploads) + "/" + names)
	if err != nil {
		return Target{}, err
	}
	parts := strings.Split(names, googleJoint)
	if len(parts) != 3 || !endpoint.IsUpload(parts[0]) || !endpoint.IsUpload(parts[1]) || !endpoint.IsUpload(parts[2]) {
		return Target{}, fmt.Errorf("%w: '%s' must be three names with '%s' between them", endpoint.ErrUpload, names, googleJoint)
	}
	e.Kind = KindGoogleUploads
	return Target{c, e}, nil
}

// Path is the target's path at Berth.
func (t Target) Path() string {
	if t.Kind == KindAPI {
		return "/" + t.Connector.Format() + t.Reference
	}
	return endpoint.Prefix + t.Connector.Format() + "/" + t.rest()
}

// UpstreamPath is the target's path at its registry, below the Connector's address.
func (t Target) UpstreamPath() string {
	if t.Kind == KindGoogleUploads {
		names := strings.Split(t.Reference, googleJoint)
		return fmt.Sprintf(googleUploads, names[0], names[1], names[2])
	}
	return endpoint.Prefix + t.rest()
}

func (t Target) rest() string {
	if t.Kind == KindCatalog {
		return string(KindCatalog)
	}
	return t.Rest()
}

// Action returns what a method does with the target, if it is one that the API knows there.
func (t Target) Action(method string) (v1alpha1.Action, bool) {
	switch t.Kind {
	case KindAPI: // the class says which methods
		return v1alpha1.ActionAPI, true
	case KindCatalog: // its length tells of what is filtered out
		return v1alpha1.ActionPull, method == http.MethodGet
	default:
		return t.Endpoint.Action(method)
	}
}

// Methods lists those that the API knows for the target, as the header Allow does.
func (t Target) Methods() string {
	var known []string
	for _, method := range [...]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete} {
		if _, ok := t.Action(method); ok {
			known = append(known, method)
		}
	}
	return strings.Join(known, ", ")
}
