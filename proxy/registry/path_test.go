package registry

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/route"
)

const (
	base   = "/v2/namespaces/demo/connectors/harbor/"
	sha256 = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func TestParsePath(t *testing.T) {
	target := func(repository string, kind endpoint.Kind, reference string) Target {
		return Target{route.Connector{Namespace: "demo", Name: "harbor"}, endpoint.Endpoint{Repository: repository, Kind: kind, Reference: reference}}
	}
	for name, test := range map[string]struct {
		path string
		want Target
	}{
		"manifest by tag":         {base + "test/abc/manifests/v1", target("test/abc", endpoint.KindManifests, "v1")},
		"manifest by digest":      {base + "test/abc/manifests/" + sha256, target("test/abc", endpoint.KindManifests, sha256)},
		"sha512":                  {base + "a/blobs/sha512:" + strings.Repeat("ab", 64), target("a", endpoint.KindBlobs, "sha512:"+strings.Repeat("ab", 64))},
		"unregistered algorithm":  {base + "a/blobs/multihash+base58:QmRZxt2b", target("a", endpoint.KindBlobs, "multihash+base58:QmRZxt2b")},
		"blob":                    {base + "abc/blobs/" + sha256, target("abc", endpoint.KindBlobs, sha256)},
		"tags":                    {base + "a/b/c/tags/list", target("a/b/c", endpoint.KindTags, "")},
		"referrers":               {base + "a/referrers/" + sha256, target("a", endpoint.KindReferrers, sha256)},
		"a tag that is a word":    {base + "a/manifests/list", target("a", endpoint.KindManifests, "list")},
		"a repository of words":   {base + "manifests/blobs/tags/manifests/tags", target("manifests/blobs/tags", endpoint.KindManifests, "tags")},
		"all separators":          {base + "a.b_c__d-e---f/tags/list", target("a.b_c__d-e---f", endpoint.KindTags, "")},
		"a route in a repository": {base + "namespaces/demo/connectors/other/tags/list", target("namespaces/demo/connectors/other", endpoint.KindTags, "")},
		"upper-case tag":          {base + "a/manifests/_V1.0-RC", target("a", endpoint.KindManifests, "_V1.0-RC")},
		"start of an upload":      {base + "a/b/blobs/uploads/", target("a/b", endpoint.KindUploads, "")},
		"upload":                  {base + "a/blobs/uploads/0c7e3a54-7d3e-4c5d-9f37-2f9a6c1d1c11", target("a", endpoint.KindUploads, "0c7e3a54-7d3e-4c5d-9f37-2f9a6c1d1c11")},
		"opaque upload":           {base + "a/blobs/uploads/AJ-x_y~z.1==", target("a", endpoint.KindUploads, "AJ-x_y~z.1==")},
		"GitHub's upload":         {base + "a/blobs/upload/384a86f0", target("a", endpoint.KindGitHubUploads, "384a86f0")},
		"Google's upload":         {base + "p/r/a/blobs/artifacts-uploads/p~r~AJ-x_y==", target("p/r/a", KindGoogleUploads, "p~r~AJ-x_y==")},
		"an upload of words":      {base + "blobs/uploads/blobs/uploads/manifests", target("blobs/uploads", endpoint.KindUploads, "manifests")},
		"catalog":                 {base + "_catalog", target("", KindCatalog, "")},
		"a repository of uploads": {base + "a/blobs/uploads/manifests/v1", target("a/blobs/uploads", endpoint.KindManifests, "v1")},
		"longest tag":             {base + "a/manifests/" + strings.Repeat("t", 128), target("a", endpoint.KindManifests, strings.Repeat("t", 128))},
		"longest repository":      {base + strings.Repeat("r", 255) + "/tags/list", target(strings.Repeat("r", 255), endpoint.KindTags, "")},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParsePath(test.path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got.Path() != test.path {
				t.Errorf("Path: %q, want %q", got.Path(), test.path)
			}
		})
	}
}

// escapes are paths that must not get past ParsePath, whatever a server behind would make of them.
func escapes() map[string]struct {
	path string
	want error
} {
	return map[string]struct {
		path string
		want error
	}{
		"dot segments":          {base + "a/../../../../api/v2.0/users", endpoint.ErrNone},
		"dot segment, manifest": {base + "a/../b/manifests/v1", endpoint.ErrRepository},
		"single dot":            {base + "a/./b/manifests/v1", endpoint.ErrRepository},
		"dot as a reference":    {base + "a/manifests/..", endpoint.ErrTag},
		"encoded dots":          {base + "a/%2e%2e/b/manifests/v1", endpoint.ErrRepository},
		"encoded dots, capital": {base + "a/%2E%2E/b/manifests/v1", endpoint.ErrRepository},
		"encoded slash":         {base + "a%2fb/manifests/v1", endpoint.ErrRepository},
		"encoded traversal":     {base + "..%2f..%2fapi/manifests/v1", endpoint.ErrRepository},
		"encoded backslash":     {base + "a%5c..%5cb/manifests/v1", endpoint.ErrRepository},
		"NUL":                   {base + "a%00/manifests/v1", endpoint.ErrRepository},
		"encoded letter":        {base + "%61/manifests/v1", endpoint.ErrRepository},
		"encoded tag":           {base + "a/manifests/v%31", endpoint.ErrTag},
		"encoded colon":         {base + "a/blobs/" + strings.Replace(sha256, ":", "%3A", 1), endpoint.ErrDigest},
		"encoded line end":      {base + "a/manifests/v1%0d%0aHost:x", endpoint.ErrDigest},
		"twice encoded":         {base + "a%252e%252e/manifests/v1", endpoint.ErrRepository},
		"not ASCII":             {base + "%C3%A9/manifests/v1", endpoint.ErrRepository},
		"empty segment":         {base + "a//b/manifests/v1", endpoint.ErrRepository},
		"leading empty segment": {base + "/a/manifests/v1", endpoint.ErrRepository},
		"double prefix slash":   {"/v2//namespaces/demo/connectors/harbor/a/manifests/v1", endpoint.ErrNone},
		"upper-case repository": {base + "A/manifests/v1", endpoint.ErrRepository},
		"long repository":       {base + strings.Repeat("r", 256) + "/manifests/v1", endpoint.ErrRepository},
		"long tag":              {base + "a/manifests/" + strings.Repeat("t", 129), endpoint.ErrTag},
		"long path":             {base + strings.Repeat("a/", 600) + "manifests/v1", endpoint.ErrNone},
		"short digest":          {base + "a/blobs/sha256:abcd", endpoint.ErrDigest},
		"upper-case digest":     {base + "a/blobs/" + strings.ToUpper(sha256), endpoint.ErrDigest},
		"tag of a blob":         {base + "a/blobs/v1", endpoint.ErrDigest},
		"no reference":          {base + "a/manifests/", endpoint.ErrTag},
		"no repository":         {base + "manifests/v1", endpoint.ErrNone},
		"uploads, no slash":     {base + "a/blobs/uploads", endpoint.ErrDigest},
		"upload of dots":        {base + "a/blobs/uploads/..", endpoint.ErrUpload},
		"upload, dot first":     {base + "a/blobs/uploads/.0", endpoint.ErrUpload},
		"GitHub's, dot first":   {base + "a/blobs/upload/.0", endpoint.ErrUpload},
		"Google's, dot first":   {base + "a/blobs/artifacts-uploads/p~.r~u", endpoint.ErrUpload},
		"upload, encoded":       {base + "a/blobs/uploads/%2e%2e", endpoint.ErrUpload},
		"upload, encoded slash": {base + "a/blobs/uploads/x%2Fy", endpoint.ErrUpload},
		"upload in two":         {base + "a/blobs/uploads/x/y", endpoint.ErrNone},
		"upload, backslash":     {base + `a/blobs/uploads/x\y`, endpoint.ErrUpload},
		"upload, semicolon":     {base + "a/blobs/uploads/x;y=1", endpoint.ErrUpload},
		"upload, too long":      {base + "a/blobs/uploads/" + strings.Repeat("u", 513), endpoint.ErrUpload},
		"uploads of nothing":    {base + "blobs/uploads/x", endpoint.ErrNone},
		"GitHub's, no name":     {base + "a/blobs/upload/", endpoint.ErrUpload},
		"Google's, of two":      {base + "a/blobs/artifacts-uploads/p~x", endpoint.ErrUpload},
		"Google's, of four":     {base + "a/blobs/artifacts-uploads/p~r~x~y", endpoint.ErrUpload},
		"Google's, of dots":     {base + "a/blobs/artifacts-uploads/p~..~x", endpoint.ErrUpload},
		"catalog, slash":        {base + "_catalog/", endpoint.ErrNone},
		"catalog of a repo":     {base + "a/_catalog", endpoint.ErrNone},
		"tags of what":          {base + "a/tags/lists", endpoint.ErrNone},
		"trailing slash":        {base + "a/tags/list/", endpoint.ErrNone},
		"another API":           {"/v2/namespaces/demo/connectors/harbor/api/v2.0/users", endpoint.ErrNone},
		"token service":         {"/v2/namespaces/demo/connectors/harbor/service/token", endpoint.ErrNone},
		"catalog":               {"/v2/_catalog", endpoint.ErrNone},
		"connector alone":       {"/v2/namespaces/demo/connectors/harbor", endpoint.ErrNone},
		"encoded connector":     {"/v2/namespaces/demo/connectors/harb%6fr/a/manifests/v1", endpoint.ErrNone},
		"connector with dots":   {"/v2/namespaces/demo/connectors/../a/manifests/v1", endpoint.ErrNone},
		"semicolon":             {base + "a;x=1/manifests/v1", endpoint.ErrRepository},
	}
}

func TestParsePathRefuses(t *testing.T) {
	for name, test := range escapes() {
		t.Run(name, func(t *testing.T) {
			got, err := ParsePath(test.path)
			if !errors.Is(err, test.want) {
				t.Errorf("ParsePath: %+v, %v, want %v", got, err, test.want)
			}
		})
	}
}

// TestOneGrammar: below its route a path is what package endpoint, by which the forward proxy reads, says that it is,
// but for what is of this proxy alone; and a client learns by the code what is wrong with one.
func TestOneGrammar(t *testing.T) {
	own := Code("of this proxy alone")
	for rest, want := range map[string]Code{ // "": both take it
		"a/manifests/v1":                   "",
		"a/b/manifests/" + sha256:          "",
		"a/blobs/" + sha256:                "",
		"a/tags/list":                      "",
		"a/referrers/" + sha256:            "",
		"a/blobs/uploads/":                 "",
		"a/blobs/uploads/u1":               "",
		"a/blobs/upload/u1":                "",
		"blobs/manifests/v1":               "",
		"_catalog":                         own,
		"p/blobs/artifacts-uploads/p~r~u":  own,
		"":                                 CodeNameUnknown,
		"a":                                CodeNameUnknown,
		"manifests/v1":                     CodeNameUnknown,
		"a/manifest/v1":                    CodeNameUnknown,
		"a/Manifests/v1":                   CodeNameUnknown,
		"a/manifests/v1/":                  CodeNameUnknown,
		"a/tags/all":                       CodeNameUnknown,
		"A/tags/all":                       CodeNameUnknown,
		"a/tags/":                          CodeNameUnknown,
		"a/_catalog":                       CodeNameUnknown,
		"_catalog/":                        CodeNameUnknown,
		"blobs/uploads/u1":                 CodeNameUnknown,
		"blobs/artifacts-uploads/p~r~u":    CodeNameUnknown,
		"a/blobs/artifacts-uploads/p~r~u/": CodeNameUnknown,
		strings.Repeat("A/", 500) + "manifests/v1": CodeNameUnknown,
		"A/manifests/v1":                           CodeNameInvalid,
		"A/manifests/..":                           CodeNameInvalid,
		"/manifests/v1":                            CodeNameInvalid,
		"a//manifests/v1":                          CodeNameInvalid,
		"../manifests/v1":                          CodeNameInvalid,
		"a%2fb/manifests/v1":                       CodeNameInvalid,
		"/blobs/uploads/":                          CodeNameInvalid,
		"/blobs/artifacts-uploads/p~r~u":           CodeNameInvalid,
		"A/blobs/artifacts-uploads/p~u":            CodeNameInvalid,
		strings.Repeat("A/", 470) + "manifests/v1": CodeNameInvalid,
		"a/blobs/uploads":                          CodeDigestInvalid,
		"a/blobs/v1":                               CodeDigestInvalid,
		"a/blobs/":                                 CodeDigestInvalid,
		"a/referrers/v1":                           CodeDigestInvalid,
		"a/manifests/sha256:1":                     CodeDigestInvalid,
		"a/manifests/":                             CodeManifestUnknown,
		"a/manifests/..":                           CodeManifestUnknown,
		"a/manifests/v%31":                         CodeManifestUnknown,
		"a/blobs/uploads/..":                       CodeUploadUnknown,
		"a/blobs/uploads/u%31":                     CodeUploadUnknown,
		"a/blobs/upload/":                          CodeUploadUnknown,
		"a/blobs/artifacts-uploads/":               CodeUploadUnknown,
		"a/blobs/artifacts-uploads/p~u":            CodeUploadUnknown,
		"a/blobs/artifacts-uploads/p~r~.":          CodeUploadUnknown,
		"a/blobs/artifacts-uploads/p~r~" + strings.Repeat("u", 509): CodeUploadUnknown,
	} {
		_, err := ParsePath(base + rest)
		_, other := endpoint.Parse("/v2/" + rest)
		got := Code("")
		switch {
		case err != nil:
			got = misdirected(err).code
		case other != nil:
			got = own
		}
		if got != want {
			t.Errorf("%q is %q, want %q: %v", rest, got, want, err)
		}
		if other == nil && err != nil {
			t.Errorf("%q is for the forward proxy alone: %v", rest, err)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, test := range escapes() {
		f.Add(test.path)
	}
	f.Add(base + "test/abc/manifests/v1")
	f.Add(base + "a/blobs/" + sha256)
	f.Add(base + "a.b_c__d-e---f/tags/list")
	f.Add(base + "a/blobs/uploads/AJ-x_y~z.1==")
	f.Add(base + "p/r/a/blobs/artifacts-uploads/p~r~AJ-x_y==")
	f.Add(base + "_catalog")
	f.Fuzz(func(t *testing.T, path string) {
		target, err := ParsePath(path)
		if err != nil {
			return
		}
		if target.Path() != path {
			t.Errorf("one thing has two paths: %q and %q", path, target.Path())
		}
		if again, err := ParsePath(target.Path()); err != nil || again != target {
			t.Errorf("round trip of %+v: %+v, %v", target, again, err)
		}
		for _, evil := range []string{"%", "\\", "//", "/.", "?", "#", ";", "\x00", " "} {
			if strings.Contains(target.UpstreamPath(), evil) {
				t.Errorf("%q reaches upstream in %q", evil, target.UpstreamPath())
			}
		}
	})
}
