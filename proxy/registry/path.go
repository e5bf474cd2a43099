package registry

import (
	"errors"
	"fmt"
	"strings"

	"berth.dev/berth/route"
)

// Kind is what a path of the OCI distribution API is about.
type Kind string

// The kinds, spelt as in paths.
const (
	KindManifests Kind = "manifests"
	KindBlobs     Kind = "blobs"
	KindTags      Kind = "tags"
	KindReferrers Kind = "referrers"
)

const (
	apiPrefix        = "/v2/"
	tagsList         = "list"
	maxRepository    = 255
	maxTag           = 128
	maxDigest        = 255
	maxPath          = 1024
	sha256Characters = 64
	sha512Characters = 128
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
)

// Target is what a path names.
type Target struct {
	// Connector is the one whose registry is meant.
	Connector route.Connector
	// Repository is as the registry names it.
	Repository string
	// Kind says what of the repository.
	Kind Kind
	// Reference is the tag or digest of a manifest, the digest of a blob or a referrers' subject, and empty for tags.
	Reference string
}

// ParsePath reads a path as it stood in the request, percent-encoding and all:
//
//	path       = "/v2/" route "/" repository "/" endpoint
//	repository = component *( "/" component )            ; at most 255 characters
//	component  = 1*( a-z | 0-9 ) *( separator 1*( a-z | 0-9 ) )
//	separator  = "." | "_" | "__" | 1*"-"
//	endpoint   = "manifests/" ( tag | digest ) | "blobs/" digest | "tags/list" | "referrers/" digest
//	tag        = ( letter | digit | "_" ) *127( letter | digit | "_" | "." | "-" )
//	digest     = algorithm ":" 1*( letter | digit | "=" | "_" | "-" )
//
// All of it is the grammar of the OCI distribution specification, the route is
// that of package route. There is nothing else: no '%', no dot segment, no empty
// segment, no backslash fits the grammar, so what passes means the same to every
// server behind Berth, and one thing has one path: Path writes what ParsePath reads.
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
	rest, reference, _ := cutLast(rest)
	repository, kind, ok := cutLast(rest)
	if !ok {
		return Target{}, fmt.Errorf("%w: '%s' names no repository and endpoint", ErrNoEndpoint, path)
	}
	t := Target{Connector: connector, Repository: repository, Kind: Kind(kind), Reference: reference}
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

// checked returns the target if each of its parts is in the grammar.
func (t Target) checked() (Target, error) {
	switch t.Kind {
	case KindManifests, KindBlobs, KindReferrers:
	case KindTags:
		if t.Reference != tagsList {
			return Target{}, fmt.Errorf("%w: 'tags/%s' must be 'tags/list'", ErrNoEndpoint, t.Reference)
		}
		t.Reference = ""
	default:
		return Target{}, fmt.Errorf("%w: '%s' must be one of manifests, blobs, tags, referrers", ErrNoEndpoint, t.Kind)
	}
	if !isRepository(t.Repository) {
		return Target{}, fmt.Errorf("%w: '%s' must be lower-case components, at most %d characters, as in 'team/app'", ErrRepository, t.Repository, maxRepository)
	}
	switch {
	case t.Kind == KindTags, isDigest(t.Reference):
		return t, nil
	case t.Kind != KindManifests || strings.Contains(t.Reference, ":"):
		return Target{}, fmt.Errorf("%w: '%s' must be as in 'sha256:' and 64 characters of 0-9 and a-f", ErrDigest, t.Reference)
	case !isTag(t.Reference):
		return Target{}, fmt.Errorf("%w: '%s' must be at most %d letters, digits, '_', '.' and '-', and not start with '.' or '-'", ErrTag, t.Reference, maxTag)
	}
	return t, nil
}

// Path is the target's path at Berth.
func (t Target) Path() string { return apiPrefix + t.Connector.Format() + "/" + t.endpoint() }

// UpstreamPath is the target's path at its registry, below the Connector's address.
func (t Target) UpstreamPath() string { return apiPrefix + t.endpoint() }

func (t Target) endpoint() string {
	reference := t.Reference
	if t.Kind == KindTags {
		reference = tagsList
	}
	return t.Repository + "/" + string(t.Kind) + "/" + reference
}

func isRepository(s string) bool {
	if len(s) > maxRepository {
		return false
	}
	for component := range strings.SplitSeq(s, "/") {
		if !isComponent(component) {
			return false
		}
	}
	return true
}

// isComponent reports whether s is runs of letters and digits with a separator between each two.
func isComponent(s string) bool {
	for {
		s2 := strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyz0123456789")
		if len(s2) == len(s) {
			return false
		}
		if s2 == "" {
			return true
		}
		s = cutSeparator(s2)
	}
}

// cutSeparator takes one separator off the start of s, if one is there.
func cutSeparator(s string) string {
	switch {
	case s[0] == '-':
		return strings.TrimLeft(s, "-")
	case strings.HasPrefix(s, "__"):
		return s[2:]
	case s[0] == '.', s[0] == '_':
		return s[1:]
	}
	return s
}

func isTag(s string) bool {
	return s != "" && len(s) <= maxTag && s[0] != '.' && s[0] != '-' && consistsOf(s, isTagCharacter)
}

func isDigest(s string) bool {
	algorithm, encoded, ok := strings.Cut(s, ":")
	if !ok || len(s) > maxDigest {
		return false
	}
	switch algorithm {
	case "sha256":
		return len(encoded) == sha256Characters && consistsOf(encoded, isHex)
	case "sha512":
		return len(encoded) == sha512Characters && consistsOf(encoded, isHex)
	}
	return isAlgorithm(algorithm) && encoded != "" && consistsOf(encoded, isEncodedCharacter)
}

// isAlgorithm reports whether s is runs of letters and digits with one of '+', '.', '_', '-' between each two.
func isAlgorithm(s string) bool {
	for {
		at := strings.IndexAny(s, "+._-")
		if at < 0 {
			return s != "" && consistsOf(s, isLowerOrDigit)
		}
		if at == 0 || !consistsOf(s[:at], isLowerOrDigit) {
			return false
		}
		s = s[at+1:]
	}
}

func consistsOf(s string, in func(byte) bool) bool {
	for i := range len(s) {
		if !in(s[i]) {
			return false
		}
	}
	return true
}

func isLowerOrDigit(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func isLetterOrDigit(c byte) bool { return isLowerOrDigit(c) || c >= 'A' && c <= 'Z' }

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

func isTagCharacter(c byte) bool { return isLetterOrDigit(c) || c == '_' || c == '.' || c == '-' }

func isEncodedCharacter(c byte) bool { return isLetterOrDigit(c) || c == '=' || c == '_' || c == '-' }
