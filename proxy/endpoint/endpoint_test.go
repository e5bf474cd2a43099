package endpoint_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/proxy/endpoint"
)

const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParse(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]endpoint.Endpoint{
		"/v2/app/manifests/v1":                       {Repository: "app", Kind: endpoint.KindManifests, Reference: "v1"},
		"/v2/team/app/manifests/" + digest:           {Repository: "team/app", Kind: endpoint.KindManifests, Reference: digest},
		"/v2/team/blobs/" + digest:                   {Repository: "team", Kind: endpoint.KindBlobs, Reference: digest},
		"/v2/team/app/tags/list":                     {Repository: "team/app", Kind: endpoint.KindTags},
		"/v2/app/referrers/" + digest:                {Repository: "app", Kind: endpoint.KindReferrers, Reference: digest},
		"/v2/team/app/blobs/uploads/":                {Repository: "team/app", Kind: endpoint.KindUploads},
		"/v2/app/blobs/uploads/3f2a_=.~-":            {Repository: "app", Kind: endpoint.KindUploads, Reference: "3f2a_=.~-"},
		"/v2/app/blobs/upload/3f2a":                  {Repository: "app", Kind: endpoint.KindGitHubUploads, Reference: "3f2a"},
		"/v2/blobs/uploads/manifests/v1":             {Repository: "blobs/uploads", Kind: endpoint.KindManifests, Reference: "v1"},
		"/v2/api/v2.0/projects/blobs/uploads/robots": {Repository: "api/v2.0/projects", Kind: endpoint.KindUploads, Reference: "robots"},
	} {
		got, err := endpoint.Parse(path)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("Parse(%s): %v\n%s", path, err, diff)
		}
		if got.Path() != path {
			t.Errorf("Path = %s, want %s", got.Path(), path)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]error{
		"":                           endpoint.ErrNone,
		"/v2/":                       endpoint.ErrNone,
		"/v2/_catalog":               endpoint.ErrNone,
		"/v2/app":                    endpoint.ErrNone,
		"/v2/manifests/v1":           endpoint.ErrNone,
		"/v2/app/manifest/v1":        endpoint.ErrNone,
		"/V2/app/manifests/v1":       endpoint.ErrNone,
		"//v2/app/manifests/v1":      endpoint.ErrNone,
		"/v2/app/manifests/v1/":      endpoint.ErrNone,
		"/service/token":             endpoint.ErrNone,
		"/api/v2.0/users":            endpoint.ErrNone,
		"/v2/../api/manifests/v1":    endpoint.ErrRepository,
		"/v2/a/../b/manifests/v1":    endpoint.ErrRepository,
		"/v2/a%2fb/manifests/v1":     endpoint.ErrRepository,
		"/v2/A/manifests/v1":         endpoint.ErrRepository,
		"/v2//manifests/v1":          endpoint.ErrRepository,
		`/v2/a\b/manifests/v1`:       endpoint.ErrRepository,
		"/v2/app/manifests/.v1":      endpoint.ErrTag,
		"/v2/app/manifests/v1%2f..":  endpoint.ErrTag,
		"/v2/app/manifests/..":       endpoint.ErrTag,
		"/v2/app/blobs/v1":           endpoint.ErrDigest,
		"/v2/app/blobs/sha256:abc":   endpoint.ErrDigest,
		"/v2/app/tags/all":           endpoint.ErrNone,
		"/v2/app/blobs/uploads/..":   endpoint.ErrUpload,
		"/v2/app/blobs/uploads/.u":   endpoint.ErrUpload,
		"/v2/app/blobs/upload/":      endpoint.ErrUpload,
		"/v2/app/blobs/uploads/a%2f": endpoint.ErrUpload,
		"/v2/" + strings.Repeat("a", 256) + "/tags/list": endpoint.ErrRepository,
		"/v2/" + strings.Repeat("a/", 600):               endpoint.ErrNone,
	} {
		if got, err := endpoint.Parse(path); !errors.Is(err, want) {
			t.Errorf("Parse(%s) = %v, %v, want %v", path, got, err, want)
		}
	}
}

func TestAction(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]map[string]v1alpha1.Action{
		"/v2/app/manifests/v1":      {http.MethodGet: v1alpha1.ActionPull, http.MethodHead: v1alpha1.ActionPull, http.MethodPut: v1alpha1.ActionPush, http.MethodDelete: v1alpha1.ActionDelete},
		"/v2/app/blobs/" + digest:   {http.MethodGet: v1alpha1.ActionPull, http.MethodHead: v1alpha1.ActionPull, http.MethodDelete: v1alpha1.ActionDelete},
		"/v2/app/tags/list":         {http.MethodGet: v1alpha1.ActionPull, http.MethodHead: v1alpha1.ActionPull},
		"/v2/app/blobs/uploads/":    {http.MethodPost: v1alpha1.ActionPush},
		"/v2/app/blobs/uploads/abc": {http.MethodGet: v1alpha1.ActionPush, http.MethodHead: v1alpha1.ActionPush, http.MethodPatch: v1alpha1.ActionPush, http.MethodPut: v1alpha1.ActionPush, http.MethodDelete: v1alpha1.ActionPush},
	} {
		e, err := endpoint.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]v1alpha1.Action{}
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND", ""} {
			if action, ok := e.Action(method); ok {
				got[method] = action
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"/v2/team/app/manifests/v1", "/v2/a/blobs/uploads/", "/v2/a/tags/list", "/v2/../a/manifests/v1", "/v2/a/blobs/" + digest} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		e, err := endpoint.Parse(path)
		if err != nil {
			return
		}
		if e.Path() != path {
			t.Errorf("%q is written as %q", path, e.Path())
		}
		if strings.ContainsAny(path, "%\\?#") || strings.Contains(path, "//") || strings.Contains(path+"/", "/./") || strings.Contains(path+"/", "/../") {
			t.Errorf("Parse takes %q", path)
		}
	})
}

// FuzzRepository holds our grammar of repositories and tags against that of distribution/reference.
func FuzzRepository(f *testing.F) {
	for _, seed := range []string{"a", "a/b", "a--b", "a__b", "a___b", "a..b", "-a", "a-", "a/", "A", "é", "a_-b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parsed, err := reference.WithName("example.com/" + s)
		want := err == nil && reference.Path(parsed) == s
		if got := endpoint.IsRepository(s); got != want && len(s) <= endpoint.MaxRepository-len("example.com/") {
			t.Errorf("IsRepository(%q): %t, distribution/reference says %t", s, got, want)
		}
		anchored := reference.TagRegexp.FindString(s) == s && s != ""
		if got := endpoint.IsTag(s); got != anchored {
			t.Errorf("IsTag(%q): %t, distribution/reference says %t", s, got, anchored)
		}
	})
}
