package conformance_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
	dockerType   = "application/vnd.docker.distribution.manifest.v2+json"
	octets       = "application/octet-stream"
)

// operations are all that clients do with a registry. Each begins with
// repositories that nobody has used, and is run at both doors.
func operations() map[string]func(*session) {
	return map[string]func(*session){
		"upload, whole":                  uploadWhole,
		"upload, whole, in one request":  uploadAtOnce,
		"upload, in five chunks":         uploadChunks,
		"upload, of unknown length":      uploadStream,
		"upload, cancelled":              uploadCancelled,
		"upload, of a wrong digest":      uploadWrong,
		"upload, that nobody began":      uploadUnknown,
		"mount":                          mount,
		"blob, ranges":                   ranges,
		"blob, conditions":               conditionsOfBlobs,
		"manifest":                       manifests,
		"manifest, kinds that are taken": accepted,
		"manifest, conditions":           conditionsOfManifests,
		"manifest, refused":              manifestsRefused,
		"index":                          indexes,
		"tags":                           tags,
		"tags, nonsense":                 tagsNonsense,
		"delete":                         deletes,
		"nothing there":                  nothing,
		"referrers":                      referrers,
	}
}

func digest(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }

// content is n bytes that look like no text and no zeros.
func content(seed, n int) []byte {
	b := make([]byte, 0, n+sha256.Size)
	for i := 0; len(b) < n; i++ {
		sum := sha256.Sum256(fmt.Append(nil, seed, i))
		b = append(b, sum[:]...)
	}
	return b[:n]
}

// with adds a parameter to an address that may have some.
func with(address, name, value string) string {
	separator := "?"
	if strings.Contains(address, "?") {
		separator = "&"
	}
	return address + separator + name + "=" + url.QueryEscape(value)
}

// put uploads a blob, and returns its digest.
func (s *session) put(repository string, blob []byte) string {
	s.Helper()
	begun := s.do(http.MethodPost, repository+"/blobs/uploads/", nil)
	s.do(http.MethodPut, with(s.location(begun), "digest", digest(blob)), blob, header("Content-Type", octets))
	return digest(blob)
}

// image uploads an image of one layer, and returns its manifest.
func (s *session) image(repository, tag string) []byte {
	s.Helper()
	config, layer := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`), content(len(tag), 3000)
	s.put(repository, config)
	s.put(repository, layer)
	manifest := manifestOf(config, layer, nil)
	s.do(http.MethodPut, repository+"/manifests/"+tag, manifest, header("Content-Type", manifestType))
	return manifest
}

func descriptor(mediaType string, content []byte) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": digest(content), "size": len(content)}
}

func manifestOf(config, layer []byte, more map[string]any) []byte {
	manifest := map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": descriptor("application/vnd.oci.image.config.v1+json", config),
		"layers": []any{descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer)},
	}
	maps.Copy(manifest, more)
	raw, _ := json.Marshal(manifest)
	return raw
}

func uploadWhole(s *session) {
	for _, size := range []int{0, 1, 32 << 10, 5 << 20} {
		blob := content(size, size)
		at := "app/blobs/" + s.put("app", blob)
		s.do(http.MethodHead, at, nil)
		if a := s.do(http.MethodGet, at, nil); a.status == http.StatusOK && !bytes.Equal(a.body, blob) {
			s.Errorf("%d bytes were uploaded, and other ones came back", size)
		}
		s.put("app", blob) // what is there already
	}
}

func uploadAtOnce(s *session) {
	blob := content(1, 1000)
	s.do(http.MethodPost, "app/blobs/uploads/?digest="+digest(blob), blob, header("Content-Type", octets))
	s.do(http.MethodPost, "app/blobs/uploads/?digest="+url.QueryEscape(digest(blob)), blob, header("Content-Type", octets))
	s.do(http.MethodHead, "app/blobs/"+digest(blob), nil)
}

func uploadChunks(s *session) {
	const chunk = 100_000
	blob := content(2, 5*chunk)
	at := s.location(s.do(http.MethodPost, "app/blobs/uploads/", nil, header("Content-Length", "0")))
	send := func(i int) *answer {
		return s.do(http.MethodPatch, at, blob[i*chunk:(i+1)*chunk],
			header("Content-Type", octets), header("Content-Range", fmt.Sprintf("%d-%d", i*chunk, (i+1)*chunk-1)))
	}
	for i := range 4 {
		if i == 2 { // a client that lost its way asks, and goes on from there
			at = s.location(s.do(http.MethodGet, at, nil))
			send(4) // out of order
			s.do(http.MethodHead, at, nil)
		}
		at = s.location(send(i))
	}
	s.do(http.MethodPut, with(at, "digest", digest(blob)), blob[4*chunk:],
		header("Content-Type", octets), header("Content-Range", fmt.Sprintf("%d-%d", 4*chunk, 5*chunk-1)))
	if a := s.do(http.MethodGet, "app/blobs/"+digest(blob), nil); a.status == http.StatusOK && !bytes.Equal(a.body, blob) {
		s.Error("five chunks went up, and other bytes came back")
	}
}

func uploadStream(s *session) {
	blob := content(3, 1<<20+7)
	at := s.location(s.do(http.MethodPost, "app/blobs/uploads/", nil))
	at = s.location(s.do(http.MethodPatch, at, blob, header("Content-Type", octets), unsized))
	s.do(http.MethodPut, with(at, "digest", digest(blob)), nil)
	s.do(http.MethodHead, "app/blobs/"+digest(blob), nil)

	blob = content(4, 1<<20+7)
	at = s.location(s.do(http.MethodPost, "app/blobs/uploads/", nil))
	s.do(http.MethodPut, with(at, "digest", digest(blob)), blob, header("Content-Type", octets), unsized, header("Expect", "100-continue"))
	s.do(http.MethodHead, "app/blobs/"+digest(blob), nil)
}

func uploadCancelled(s *session) {
	at := s.location(s.do(http.MethodPost, "app/blobs/uploads/", nil))
	at = s.location(s.do(http.MethodPatch, at, content(5, 1000), header("Content-Type", octets)))
	s.do(http.MethodDelete, at, nil)
	s.do(http.MethodGet, at, nil)
	s.do(http.MethodPatch, at, content(5, 1000), header("Content-Type", octets))
	s.do(http.MethodDelete, at, nil)
}

func uploadWrong(s *session) {
	blob := content(6, 1000)
	for _, wrong := range []string{digest(nil), "sha256:1234", "", "md5:d41d8cd98f00b204e9800998ecf8427e"} {
		at := s.location(s.do(http.MethodPost, "app/blobs/uploads/", nil))
		s.do(http.MethodPut, with(at, "digest", wrong), blob, header("Content-Type", octets))
	}
	at := s.location(s.do(http.MethodPost, "app/blobs/uploads/", nil))
	s.do(http.MethodPut, at, blob, header("Content-Type", octets)) // no digest
	s.do(http.MethodHead, "app/blobs/"+digest(blob), nil)
}

func uploadUnknown(s *session) {
	const at = "app/blobs/uploads/6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPatch, http.MethodPut, http.MethodDelete} {
		s.do(method, at, nil)
	}
}

func mount(s *session) {
	blob := s.put("source", content(7, 2000))
	at := func(digest, from string) string {
		return "target/blobs/uploads/?mount=" + url.QueryEscape(digest) + "&from=" + url.QueryEscape(s.from(from))
	}
	s.do(http.MethodPost, at(blob, "source"), nil)
	s.do(http.MethodHead, "target/blobs/"+blob, nil)
	s.do(http.MethodPost, at(digest([]byte("nothing")), "source"), nil)
	s.do(http.MethodPost, at(blob, "nowhere"), nil)
	s.do(http.MethodPost, "other/blobs/uploads/?mount="+blob, nil) // from nowhere
}

// from is how a client names a repository of this door in `from`: as it does in paths.
func (s *session) from(repository string) string {
	_, below, _ := strings.Cut(s.api, "/v2/")
	return below + s.root + "/" + repository
}

func ranges(s *session) {
	at := "app/blobs/" + s.put("app", content(8, 1000))
	for _, wanted := range []string{"bytes=2-5", "bytes=990-", "bytes=-3", "bytes=0-0,5-6", "bytes=2000-", "bytes=5-2", "lines=1-2"} {
		s.do(http.MethodGet, at, nil, header("Range", wanted))
		s.do(http.MethodHead, at, nil, header("Range", wanted))
	}
}

func conditionsOfBlobs(s *session) {
	blob := s.put("app", content(9, 1000))
	tag := `"` + blob + `"`
	for _, condition := range [][2]string{{"If-None-Match", tag}, {"If-None-Match", "W/" + tag}, {"If-None-Match", "*"}, {"If-None-Match", `"other"`}, {"If-Match", tag}} {
		s.do(http.MethodGet, "app/blobs/"+blob, nil, header(condition[0], condition[1]))
	}
	s.do(http.MethodGet, "app/blobs/"+blob, nil, header("Range", "bytes=0-9"), header("If-Range", tag))
	s.do(http.MethodGet, "app/blobs/"+blob, nil, header("Range", "bytes=0-9"), header("If-Range", `"other"`))
	s.do(http.MethodGet, "app/blobs/"+blob, nil, header("Accept-Encoding", "gzip"))
}

func manifests(s *session) {
	manifest := s.image("team/app", "v1")
	s.do(http.MethodPut, "team/app/manifests/"+digest(manifest), manifest, header("Content-Type", manifestType))
	s.do(http.MethodPut, "team/app/manifests/V_1.0-rc.1", manifest, header("Content-Type", manifestType))
	for _, reference := range []string{"v1", "V_1.0-rc.1", digest(manifest)} {
		s.do(http.MethodHead, "team/app/manifests/"+reference, nil)
		s.do(http.MethodGet, "team/app/manifests/"+reference, nil)
		if a := s.do(http.MethodGet, "team/app/manifests/"+reference, nil, header("Accept", manifestType)); !bytes.Equal(a.body, manifest) {
			s.Errorf("another manifest came back for '%s'", reference)
		}
	}
}

func accepted(s *session) {
	s.image("app", "v1")
	for _, kinds := range []string{manifestType, indexType, dockerType, "*/*", "text/plain", strings.Join([]string{indexType, manifestType, dockerType}, ", ")} {
		s.do(http.MethodGet, "app/manifests/v1", nil, header("Accept", kinds))
		s.do(http.MethodHead, "app/manifests/v1", nil, header("Accept", kinds))
	}
	s.do(http.MethodGet, "app/manifests/v1", nil, func(r *http.Request) {
		r.Header["Accept"] = []string{dockerType, indexType, manifestType}
	})
}

func conditionsOfManifests(s *session) {
	tag := `"` + digest(s.image("app", "v1")) + `"`
	for _, known := range []string{tag, "W/" + tag, `"other"`, tag[1 : len(tag)-1]} {
		s.do(http.MethodGet, "app/manifests/v1", nil, header("If-None-Match", known))
		s.do(http.MethodHead, "app/manifests/v1", nil, header("If-None-Match", known))
	}
}

func manifestsRefused(s *session) {
	manifest := s.image("app", "v1")
	unknown := manifestOf([]byte("{}"), content(10, 10), nil)
	s.do(http.MethodPut, "app/manifests/v2", unknown, header("Content-Type", manifestType)) // of blobs that are not there
	s.do(http.MethodPut, "app/manifests/v2", []byte("{"), header("Content-Type", manifestType))
	s.do(http.MethodPut, "app/manifests/v2", nil, header("Content-Type", manifestType))
	s.do(http.MethodPut, "app/manifests/v2", manifest, header("Content-Type", "text/plain"))
	s.do(http.MethodPut, "app/manifests/v2", manifest)
	s.do(http.MethodPut, "app/manifests/"+digest([]byte("other")), manifest, header("Content-Type", manifestType))
	s.do(http.MethodGet, "app/manifests/v2", nil)
}

func indexes(s *session) {
	first, second := s.image("app", "a"), s.image("app", "bb")
	index, _ := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": indexType,
		"manifests": []any{descriptor(manifestType, first), descriptor(manifestType, second)},
	})
	s.do(http.MethodPut, "app/manifests/all", index, header("Content-Type", indexType))
	s.do(http.MethodGet, "app/manifests/all", nil, header("Accept", indexType))
	s.do(http.MethodGet, "app/manifests/all", nil, header("Accept", manifestType))
	s.do(http.MethodHead, "app/manifests/"+digest(index), nil)
}

func tags(s *session) {
	manifest := s.image("app", "a")
	for _, tag := range []string{"b", "c", "d", "latest", "_x"} {
		s.do(http.MethodPut, "app/manifests/"+tag, manifest, header("Content-Type", manifestType))
	}
	for _, query := range []string{"", "?n=2", "?n=100", "?last=b", "?n=1&last=c", "?n=2&last=nothing", "?last=latest"} {
		s.do(http.MethodGet, "app/tags/list"+query, nil)
	}
	s.do(http.MethodHead, "app/tags/list", nil)
	s.pages("app/tags/list?n=1", 6)
	s.do(http.MethodGet, "nothing/tags/list", nil)
}

// tagsNonsense asks for pages that there cannot be.
func tagsNonsense(s *session) {
	s.image("app", "a")
	for _, query := range []string{"?n=0", "?n=-1", "?n=x", "?n=", "?n=99999999999999999999", "?last=/", "?other=1"} {
		s.do(http.MethodGet, "app/tags/list"+query, nil)
	}
}

// pages follows the links of a list from its first page to the last.
func (s *session) pages(at string, want int) (all []*answer) {
	s.Helper()
	for at != "" && len(all) < 2*want {
		a := s.do(http.MethodGet, at, nil)
		all, at = append(all, a), s.next(a)
	}
	if len(all) < want {
		s.Errorf("the list had %d pages, want %d", len(all), want)
	}
	return all
}

func deletes(s *session) {
	manifest := s.image("app", "v1")
	s.do(http.MethodPut, "app/manifests/v2", manifest, header("Content-Type", manifestType))
	s.do(http.MethodDelete, "app/manifests/v1", nil)
	s.do(http.MethodGet, "app/manifests/v1", nil)
	s.do(http.MethodGet, "app/manifests/v2", nil)
	for range 2 {
		s.do(http.MethodDelete, "app/manifests/"+digest(manifest), nil)
	}
	s.do(http.MethodGet, "app/manifests/v2", nil)
	s.do(http.MethodGet, "app/tags/list", nil)
	blob := s.put("app", content(11, 1000))
	for range 2 {
		s.do(http.MethodDelete, "app/blobs/"+blob, nil)
		s.do(http.MethodHead, "app/blobs/"+blob, nil)
	}
	s.do(http.MethodDelete, "app/manifests/nothing", nil)
}

func nothing(s *session) {
	unknown := digest([]byte("nothing"))
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, path := range []string{
			"none/manifests/v1", "none/manifests/" + unknown, "none/blobs/" + unknown, "none/tags/list",
		} {
			s.do(method, path, nil)
		}
	}
	s.do(http.MethodDelete, "none/manifests/"+unknown, nil)
	s.do(http.MethodDelete, "none/blobs/"+unknown, nil)
}

// referrers are there in registries that know them, and elsewhere under a tag that clients make.
func referrers(s *session) {
	subject := s.image("app", "v1")
	s.do(http.MethodGet, "app/referrers/"+digest(subject), nil)
	for i, kind := range []string{"application/vnd.example.sbom", "application/vnd.example.signature", "application/vnd.example.sbom"} {
		layer := append(content(20+i, 100), s.root...) // olareg has one cache of pages for all, by what is in them
		manifest := manifestOf([]byte("{}"), layer, map[string]any{"subject": descriptor(manifestType, subject), "artifactType": kind})
		s.call(digest(layer), fmt.Sprintf("{layer %d}", i))
		s.call(digest(manifest), fmt.Sprintf("{referrer %d}", i))
		s.put("app", []byte("{}"))
		s.put("app", layer)
		s.do(http.MethodPut, "app/manifests/"+digest(manifest), manifest, header("Content-Type", manifestType))
	}
	at := "app/referrers/" + digest(subject)
	known := s.do(http.MethodGet, at, nil).status == http.StatusOK
	s.do(http.MethodHead, at, nil)
	s.do(http.MethodGet, at+"?artifactType="+url.QueryEscape("application/vnd.example.signature"), nil)
	s.do(http.MethodGet, "app/referrers/"+digest([]byte("nothing")), nil)
	if known {
		s.pages(at, 3)
		s.pages(at+"?artifactType="+url.QueryEscape("application/vnd.example.sbom"), 2)
	}
	tag := strings.ReplaceAll(digest(subject), ":", "-")
	s.do(http.MethodPut, "app/manifests/"+tag, subject, header("Content-Type", manifestType))
	s.do(http.MethodGet, "app/manifests/"+tag, nil, header("Accept", manifestType))
}
