package client_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path/filepath"
	"strings"

	"berth.dev/berth/test/loopback"
)

// What the server of files has.
const (
	plainContent = "a plain file"
	wheelName    = "loopback-1.0-py3-none-any.whl"
)

// newFiles starts a server that demands a password for a plain file, a repository of git, an index of Python packages and a registry of npm's.
func newFiles(s *loopback.Site) *loopback.Registry {
	s.Helper()
	r := &loopback.Registry{Username: "robot", Password: "password-of-files"}
	mux := http.NewServeMux()
	mux.HandleFunc("/plain/file", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, plainContent) })
	mux.Handle("/git/", gitServer(s))
	mux.HandleFunc("/simple/loopback/", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".whl") {
			_, _ = w.Write(wheel(s))
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<a href="`+wheelName+`">`+wheelName+`</a>`)
	})
	mux.HandleFunc("/npm/loopback", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(npmDocument("https://" + r.Host + "/npm/-/loopback-1.0.0.tgz"))
	})
	mux.HandleFunc("/npm/-/loopback-1.0.0.tgz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(npmTarball()) })
	r.Address = s.Serve(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if user, password, _ := request.BasicAuth(); user != r.Username || password != r.Password {
			w.Header().Set("Www-Authenticate", `Basic realm="files"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, request)
	}))
	return r
}

// gitServer serves a repository with one commit by git's own server.
func gitServer(s *loopback.Site) http.Handler {
	s.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		return http.NotFoundHandler()
	}
	do := func(args ...string) string {
		s.Helper()
		cmd := exec.CommandContext(s.Context(), git, args...)
		cmd.Env = []string{"HOME=" + s.Dir, "GIT_CONFIG_NOSYSTEM=1"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			s.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	work := s.Path("work")
	do("init", "-q", work)
	do("-C", work, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "--allow-empty", "-m", "first")
	do("clone", "-q", "--bare", work, s.Path("served", "repository.git"))
	return &cgi.Handler{
		Path: filepath.Join(do("--exec-path"), "git-http-backend"), Root: "/git", Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + s.Path("served"), "GIT_HTTP_EXPORT_ALL=1"},
	}
}

// wheel is a Python package.
func wheel(s *loopback.Site) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range map[string]string{
		"loopback.py":                     "",
		"loopback-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: loopback\nVersion: 1.0\n",
		"loopback-1.0.dist-info/WHEEL":    "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		"loopback-1.0.dist-info/RECORD":   "",
	} {
		w, err := z.Create(name)
		s.OK(err)
		_, err = io.WriteString(w, content)
		s.OK(err)
	}
	s.OK(z.Close())
	return b.Bytes()
}

const npmManifest = `{"name":"loopback","version":"1.0.0"}`

// npmTarball is a package of npm's.
func npmTarball() []byte {
	var b bytes.Buffer
	compressed := gzip.NewWriter(&b)
	t := tar.NewWriter(compressed)
	_ = t.WriteHeader(&tar.Header{Name: "package/package.json", Mode: 0o644, Size: int64(len(npmManifest)), Typeflag: tar.TypeReg})
	_, _ = io.WriteString(t, npmManifest)
	_ = t.Close()
	_ = compressed.Close()
	return b.Bytes()
}

// npmDocument is what npm's registry says of the package.
func npmDocument(tarball string) map[string]any {
	sum := sha512.Sum512(npmTarball())
	return map[string]any{
		"name": "loopback", "dist-tags": map[string]string{"latest": "1.0.0"},
		"versions": map[string]any{"1.0.0": map[string]any{
			"name": "loopback", "version": "1.0.0",
			"dist": map[string]string{"tarball": tarball, "integrity": "sha512-" + base64.StdEncoding.EncodeToString(sum[:])},
		}},
	}
}
