package registry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/route"
)

// Kind is what a path of the OCI distribution API is about.
type Kind string

// The kinds, spelt as in paths. Uploads have three spellings: that of the
// specification, and for uploads that have begun those of registries that put
// them elsewhere: GitHub, and Google at a path beside the API.
const (
	KindManifests     Kind = "manifests"
	KindBlobs         Kind = "blobs"
	KindTags          Kind = "tags"
	KindReferrers     Kind = "referrers"
	KindCatalog       Kind = "_catalog"
	KindUploads       Kind = "blobs/uploads"
	KindGitHubUploads Kind = "blobs/upload"
	KindGoogleUploads Kind = "blobs/artifacts-uploads"
)

const (
	apiPrefix     = "/v2/"
	tagsList      = "list"
	uploadsParent = "/blobs"
	maxPath       = 1024
	// googleUploads are those of Google's Artifact Registry: namespace, repository and upload.
	googleUploads = "/artifacts-uploads/namespaces/%s/repositories/%s/uploads/%s"
	// googleJoint stands between the three at Berth.
	googleJoint = "~"
)

// The errors that ParsePath wraps.
var (
	// ErrNoEndpoint: the path leads nowhere in the API.
	ErrNoEndpoint = errors.New("no such endpoint")
	// ErrRepository: the repository's name is none.
	ErrRepository = errors.New("not a repository name")
	// ErrTag: the tag is none.
	ErrTag = errors.New("not a tag")
	// ErrDigest: the digest is none.
	ErrDigest = errors.New("not a digest")
	// ErrUpload: the upload's name is none.
	ErrUpload = errors.New("not an upload")
)

// Target is what a path names.
type Target struct {
	// Connector is the one whose registry is meant.
	Connector route.Connector
	// Repository is as the registry names it; empty for the catalogue.
	Repository string
	// Kind says what of the repository.
	Kind Kind
	// Reference is the tag or digest of a manifest, the digest of a blob or a referrers' subject, the name of an
	// upload, and empty for tags, the catalogue, and an upload that is to begin.
	Reference string
}

// ParsePath reads a path as it stood in the request, percent-encoding and all:
//
//	path       = "/v2/" route "/" ( repository "/" endpoint | "_catalog" )
//	repository = component *( "/" component )            ; at most 255 characters
//	component  = 1*( a-z | 0-9 ) *( separator 1*( a-z | 0-9 ) )
//	separator  = "." | "_" | "__" | 1*"-"
//	endpoint   = "manifests/" ( tag | digest ) | "blobs/" digest | "tags/list" | "referrers/" digest
//	           | "blobs/uploads/" [ upload ] | "blobs/upload/" upload
//	           | "blobs/artifacts-uploads/" upload "~" upload "~" upload
//	tag        = ( letter | digit | "_" ) *127( letter | digit | "_" | "." | "-" )
//	digest     = algorithm ":" 1*( letter | digit | "=" | "_" | "-" )
//	upload     = 1*512( letter | digit | "=" | "_" | "-" | "." | "~" )   ; not dots alone
//
// All of it is the grammar of the OCI distribution specification, but for the
// uploads of registries that put them elsewhere; the route is that of package
// route. There is nothing else: no '%', no dot segment, no empty segment, no
// backslash fits the grammar, so what passes means the same to every server
// behind Berth, and one thing has one path: Path writes what ParsePath reads.
func ParsePath(path string) (Target, error) {
	if len(path) > maxPath {
		return Target{}, fmt.Errorf("%w: the path has %d characters and may have %d", ErrNoEndpoint, len(path), maxPath)
	}
	routed, ok := strings.CutPrefix(path, apiPrefix)
	if !ok {
		return Target{}, fmt.Errorf("%w: '%s' does not start with '%s'", ErrNoEndpoint, path, apiPrefix)
	}
	connector, rest, err := route.Cut(routed)
	if err != nil {
		return Target{}, fmt.Errorf("%w: %w", ErrNoEndpoint, err)
	}
	if rest == string(KindCatalog) {
		return Target{Connector: connector, Kind: KindCatalog}, nil
	}
	rest, reference, _ := cutLast(rest)
	repository, kind, ok := cutLast(rest)
	if !ok {
		return Target{}, fmt.Errorf("%w: '%s' names no repository and endpoint", ErrNoEndpoint, path)
	}
	t := Target{Connector: connector, Repository: repository, Kind: Kind(kind), Reference: reference}
	if above, ok := strings.CutSuffix(repository, uploadsParent); ok && Kind("blobs/"+kind).isUploads() {
		t.Repository, t.Kind = above, Kind("blobs/"+kind)
	}
	return t.checked()
}

// cutLast cuts s around its last slash.
func cutLast(s string) (before, after string, ok bool) {
	at := strings.LastIndexByte(s, '/')
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+1:], true
}

func (k Kind) isUploads() bool {
	return k == KindUploads || k == KindGitHubUploads || k == KindGoogleUploads
}

// checked returns the target if each of its parts is in the grammar.
func (t Target) checked() (Target, error) {
	switch t.Kind {
	case KindManifests, KindBlobs, KindReferrers, KindUploads, KindGitHubUploads, KindGoogleUploads:
	case KindTags:
		if t.Reference != tagsList {
			return Target{}, fmt.Errorf("%w: 'tags/%s' must be 'tags/list'", ErrNoEndpoint, t.Reference)
		}
		t.Reference = ""
	default:
		return Target{}, fmt.Errorf("%w: '%s' must be one of manifests, blobs, tags, referrers, blobs/uploads", ErrNoEndpoint, t.Kind)
	}
	if !endpoint.IsRepository(t.Repository) {
		return Target{}, fmt.Errorf("%w: '%s' must be lower-case components, at most %d characters, as in 'team/app'", ErrRepository, t.Repository, endpoint.MaxRepository)
	}
	if err := t.checkReference(); err != nil {
		return Target{}, err
	}
	return t, nil
}

func (t Target) checkReference() error {
	switch {
	case t.Kind == KindTags, t.Begins():
		return nil
	case t.Kind.isUploads():
		if !endpoint.IsUpload(t.Reference) || t.Kind == KindGoogleUploads && !isGoogleUpload(t.Reference) {
			return fmt.Errorf("%w: '%s' is no name that a registry gives to an upload", ErrUpload, t.Reference)
		}
	case endpoint.IsDigest(t.Reference):
		return nil
	case t.Kind != KindManifests || strings.Contains(t.Reference, ":"):
		return fmt.Errorf("%w: '%s' must be as in 'sha256:' and 64 characters of 0-9 and a-f", ErrDigest, t.Reference)
	case !endpoint.IsTag(t.Reference):
		return fmt.Errorf("%w: '%s' must be at most %d letters, digits, '_', '.' and '-', and not start with '.' or '-'", ErrTag, t.Reference, endpoint.MaxTag)
	}
	return nil
}

// isGoogleUpload reports whether s is three names.
func isGoogleUpload(s string) bool {
	names := strings.Split(s, googleJoint)
	return len(names) == 3 && endpoint.IsUpload(names[0]) && endpoint.IsUpload(names[1]) && endpoint.IsUpload(names[2])
}

// Begins reports whether the path is the one at which an upload begins.
func (t Target) Begins() bool { return t.Kind == KindUploads && t.Reference == "" }

// Path is the target's path at Berth.
func (t Target) Path() string {
	if t.Kind == KindAPI {
		return "/" + t.Connector.Format() + t.Reference
	}
	return apiPrefix + t.Connector.Format() + "/" + t.endpoint()
}

// UpstreamPath is the target's path at its registry, below the Connector's address.
func (t Target) UpstreamPath() string {
	if t.Kind == KindGoogleUploads {
		names := strings.Split(t.Reference, googleJoint)
		return fmt.Sprintf(googleUploads, names[0], names[1], names[2])
	}
	return apiPrefix + t.endpoint()
}

func (t Target) endpoint() string {
	switch t.Kind {
	case KindCatalog:
		return string(KindCatalog)
	case KindTags:
		return t.Repository + "/" + string(KindTags) + "/" + tagsList
	default:
		return t.Repository + "/" + string(t.Kind) + "/" + t.Reference
	}
}

// Action returns what a method does with the target, if it is one that the API knows there.
func (t Target) Action(method string) (v1alpha1.Action, bool) {
	read := method == http.MethodGet || method == http.MethodHead
	switch {
	case t.Kind == KindAPI: // the class says which methods
		return v1alpha1.ActionAPI, true
	case t.Kind == KindCatalog: // its length tells of what is filtered out
		return v1alpha1.ActionPull, method == http.MethodGet
	case t.Begins():
		return v1alpha1.ActionPush, method == http.MethodPost
	case t.Kind.isUploads(): // to cancel one is a part of pushing
		return v1alpha1.ActionPush, read || method == http.MethodPatch || method == http.MethodPut || method == http.MethodDelete
	case method == http.MethodPut && t.Kind == KindManifests:
		return v1alpha1.ActionPush, true
	case method == http.MethodDelete && (t.Kind == KindManifests || t.Kind == KindBlobs):
		return v1alpha1.ActionDelete, true
	}
	return v1alpha1.ActionPull, read
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
