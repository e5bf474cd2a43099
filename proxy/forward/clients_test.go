package forward

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program runs an installed program in a folder with what the webhook gives to containers, and nothing else.
func (w *world) program(t *testing.T, folder, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed")
	}
	bundle := filepath.Join(folder, "ca-bundle.crt")
	if err := os.WriteFile(bundle, w.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	at, _ := url.Parse(w.front.URL)
	at.User = url.UserPassword("berth", w.token("demo"))
	c := exec.CommandContext(t.Context(), path, args...)
	c.Dir = folder
	c.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + folder, //nolint:forbidigo // the program needs its own
		"HTTP_PROXY=" + at.String(), "http_proxy=" + at.String(), "HTTPS_PROXY=" + at.String(), "https_proxy=" + at.String(),
		"SSL_CERT_FILE=" + bundle, "CURL_CA_BUNDLE=" + bundle, "GIT_SSL_CAINFO=" + bundle,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
	}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestCurl(t *testing.T) {
	t.Parallel()
	w, folder := newWorld(t), t.TempDir()
	const content = "a layer"
	hash := sha256.Sum256([]byte(content))
	digest := "sha256:" + hex.EncodeToString(hash[:])
	w.program(t, folder, "curl", "-sS", "--fail", "-X", "POST", "--data-binary", content, "-H", "Content-Type: application/octet-stream",
		"https://"+harborHost+"/v2/test/abc/blobs/uploads/?digest="+digest)
	for _, version := range []string{"--http1.1", "--http2"} {
		if got := w.program(t, folder, "curl", "-sS", "--fail", version, "https://"+harborHost+"/v2/test/abc/blobs/"+digest); got != content {
			t.Errorf("%s: '%s'", version, got)
		}
	}
	if got := w.program(t, folder, "curl", "-sS", "--fail", "http://plain.example.net/"); got != "evil" {
		t.Errorf("plain: '%s'", got)
	}
}

// git asks without a token first, and takes it from the proxy's URL after the 407.
func TestGit(t *testing.T) {
	t.Parallel()
	w, folder := newWorld(t), t.TempDir()
	for _, args := range [][]string{
		{"init", "-q", "work"},
		{"-C", "work", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "--allow-empty", "-m", "first"},
		{"clone", "-q", "--bare", "work", "served/repository.git"},
		{"-C", "served/repository.git", "update-server-info"},
	} {
		w.program(t, folder, "git", args...)
	}
	files := http.FileServer(http.Dir(filepath.Join(folder, "served")))
	w.evil.answer(files.ServeHTTP)
	w.program(t, folder, "git", "clone", "-q", "https://"+evilHost+"/repository.git", "cloned")
	if got := w.program(t, folder, "git", "-C", "cloned", "log", "--format=%s"); got != "first\n" {
		t.Errorf("log: '%s'", got)
	}
	w.log.has(t, ReasonNoToken)
}
