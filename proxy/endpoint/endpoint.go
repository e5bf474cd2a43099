// Package endpoint is the grammar of the OCI distribution API: what a path
// names, and what a method does there. Both proxies read paths by it, and
// nothing that it does not know reaches a registry with a credential. Of two
// answers it knows what is not for every client: lists of repositories, and what
// Harbor says about the account itself.
package endpoint

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"berth.dev/berth/api/v1alpha1"
)

// Kind is what a path of the OCI distribution API is about.
type Kind string

// The kinds, spelt as in paths. An upload that has begun has another spelling at GitHub.
const (
	KindManifests     Kind = "manifests"
	KindBlobs         Kind = "blobs"
	KindTags          Kind = "tags"
	KindReferrers     Kind = "referrers"
	KindUploads       Kind = "blobs/uploads"
	KindGitHubUploads Kind = "blobs/upload"
)

// Prefix begins every path of the API.
const Prefix = "/v2/"

const (
	tagsList = "list"
	maxPath  = 1024
)

// The errors that Parse wraps.
var (
	// ErrNone: the path leads nowhere in the API.
	ErrNone = errors.New("no such endpoint")
	// ErrRepository: the repository's name is none.
	ErrRepository = errors.New("not a repository name")
	// ErrTag: the tag is none.
	ErrTag = errors.New("not a tag")
	// ErrDigest: the digest is none.
	ErrDigest = errors.New("not a digest")
	// ErrUpload: the upload's name is none.
	ErrUpload = errors.New("not an upload")
)

// Endpoint is what a path names.
type Endpoint struct {
	// Repository is as the registry names it.
	Repository string
	// Kind says what of the repository.
	Kind Kind
	// Reference is the tag or digest of a manifest, the digest of a blob or a referrers' subject, the name of an
	// upload, and empty for tags and an upload that is to begin.
	Reference string
}

// Parse reads a path as it stood in the request, percent-encoding and all:
//
//	path       = "/v2/" repository "/" endpoint
//	repository = component *( "/" component )            ; at most 255 characters
//	component  = 1*( a-z | 0-9 ) *( separator 1*( a-z | 0-9 ) )
//	separator  = "." | "_" | "__" | 1*"-"
//	endpoint   = "manifests/" ( tag | digest ) | "blobs/" digest | "tags/list" | "referrers/" digest
//	           | "blobs/uploads/" [ upload ] | "blobs/upload/" upload
//	tag        = ( letter | digit | "_" ) *127( letter | digit | "_" | "." | "-" )
//	digest     = algorithm ":" 1*( letter | digit | "=" | "_" | "-" )
//	upload     = 1*512( letter | digit | "=" | "_" | "-" | "." | "~" )   ; not "." first
//
// There is nothing else: no '%', no dot segment, no empty segment, no backslash
// fits the grammar, so what passes means the same to every server, and one thing
// has one path: Path writes what Parse reads.
func Parse(path string) (Endpoint, error) {
	rest, err := Cut(path)
	if err != nil {
		return Endpoint{}, err
	}
	return ParseRest(rest)
}

// Cut takes Prefix off a path that may be one of the API.
func Cut(path string) (rest string, err error) {
	if len(path) > maxPath {
		return "", fmt.Errorf("%w: the path has %d characters and may have %d", ErrNone, len(path), maxPath)
	}
	rest, ok := strings.CutPrefix(path, Prefix)
	if !ok {
		return "", fmt.Errorf("%w: '%s' does not start with '%s'", ErrNone, path, Prefix)
	}
	return rest, nil
}

// ParseRest reads what of a path stands below Prefix.
func ParseRest(rest string) (Endpoint, error) {
	above, reference, _ := cutLast(rest)
	repository, kind, ok := cutLast(above)
	if !ok {
		return Endpoint{}, fmt.Errorf("%w: '%s' names no repository and endpoint", ErrNone, rest)
	}
	e := Endpoint{Repository: repository, Kind: Kind(kind), Reference: reference}
	if above, ok := strings.CutSuffix(repository, "/blobs"); ok && (kind == "uploads" || kind == "upload") {
		e.Repository, e.Kind = above, "blobs/"+e.Kind
	}
	return e.checked()
}

// cutLast cuts s around its last slash.
func cutLast(s string) (before, after string, ok bool) {
	at := strings.LastIndexByte(s, '/')
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+1:], true
}

// IsUploads reports whether the kind is about uploads, all spellings of which begin alike.
func (k Kind) IsUploads() bool { return strings.HasPrefix(string(k), "blobs/") }

// checked returns the endpoint if each of its parts is in the grammar.
func (e Endpoint) checked() (Endpoint, error) {
	switch e.Kind {
	case KindManifests, KindBlobs, KindReferrers, KindUploads, KindGitHubUploads:
	case KindTags:
		if e.Reference != tagsList {
			return Endpoint{}, fmt.Errorf("%w: 'tags/%s' must be 'tags/list'", ErrNone, e.Reference)
		}
		e.Reference = ""
	default:
		return Endpoint{}, fmt.Errorf("%w: '%s' must be one of manifests, blobs, tags, referrers, blobs/uploads", ErrNone, e.Kind)
	}
	if !IsRepository(e.Repository) {
		return Endpoint{}, fmt.Errorf("%w: '%s' must be lower-case components, at most %d characters, as in 'team/app'", ErrRepository, e.Repository, MaxRepository)
	}
	if err := e.checkReference(); err != nil {
		return Endpoint{}, err
	}
	return e, nil
}

func (e Endpoint) checkReference() error {
	switch {
	case e.Kind == KindTags, e.Begins():
		return nil
	case e.Kind.IsUploads():
		if !IsUpload(e.Reference) {
			return fmt.Errorf("%w: '%s' is no name that a registry gives to an upload", ErrUpload, e.Reference)
		}
	case IsDigest(e.Reference):
		return nil
	case e.Kind != KindManifests || strings.Contains(e.Reference, ":"):
		return fmt.Errorf("%w: '%s' must be as in 'sha256:' and 64 characters of 0-9 and a-f", ErrDigest, e.Reference)
	case !IsTag(e.Reference):
		return fmt.Errorf("%w: '%s' must be at most %d letters, digits, '_', '.' and '-', and not start with '.' or '-'", ErrTag, e.Reference, MaxTag)
	}
	return nil
}

// Begins reports whether the path is the one at which an upload begins.
func (e Endpoint) Begins() bool { return e.Kind == KindUploads && e.Reference == "" }

// Path is the endpoint's path.
func (e Endpoint) Path() string { return Prefix + e.Rest() }

// Rest is what of the endpoint's path stands below Prefix.
func (e Endpoint) Rest() string {
	reference := e.Reference
	if e.Kind == KindTags {
		reference = tagsList
	}
	return e.Repository + "/" + string(e.Kind) + "/" + reference
}

// Action returns what a method does with the endpoint, if it is one that the API knows there.
func (e Endpoint) Action(method string) (v1alpha1.Action, bool) {
	read := method == http.MethodGet || method == http.MethodHead
	switch {
	case e.Begins():
		return v1alpha1.ActionPush, method == http.MethodPost
	case e.Kind.IsUploads(): // to cancel one is a part of pushing
		return v1alpha1.ActionPush, read || method == http.MethodPatch || method == http.MethodPut || method == http.MethodDelete
	case method == http.MethodPut && e.Kind == KindManifests:
		return v1alpha1.ActionPush, true
	case method == http.MethodDelete && (e.Kind == KindManifests || e.Kind == KindBlobs):
		return v1alpha1.ActionDelete, true
	}
	return v1alpha1.ActionPull, read
}
