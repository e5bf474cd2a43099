package leak_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"berth.dev/berth/test/leak"
)

const secret = "pass/word+with?%41 and more"

// TestForms: a secret is found wherever it stands in what is encoded.
func TestForms(t *testing.T) {
	t.Parallel()
	forms := leak.Forms(secret)
	for name, encode := range map[string]func(string) string{
		"as it is":        func(s string) string { return s },
		"in a query":      url.QueryEscape,
		"in a path":       url.PathEscape,
		"Base64":          func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"Base64 for URLs": func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) },
		"Base64, escaped": func(s string) string { return url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(s))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for before := range 5 {
				for after := range 5 {
					text := "…" + encode(strings.Repeat("u", before)+secret+strings.Repeat("v", after)) + "…"
					if leak.Find(text, forms) == "" {
						t.Errorf("it is not found behind %d and before %d others: %s", before, after, text)
					}
				}
			}
			if found := leak.Find(encode("another password, and more of it"), forms); found != "" {
				t.Errorf("'%s' is found where it is not", found)
			}
		})
	}
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"token":"abc.def-ghi"}`:                "abc.def-ghi",
		"Set-Cookie: sid=0123456789abcdef; Path": "0123456789abcdef",
		"Location: /x?_state=a%2Bb%3D%3D":        "a+b==",
		"Authorization: Basic cm9ib3Q6cGFzcw==":  "cm9ib3Q6cGFzcw==",
		"a robot$berth of Harbor":                "robot$berth",
	} {
		if got := leak.Candidates(text); !slices.Contains(got, want) {
			t.Errorf("of '%s' there are '%s', without '%s'", text, got, want)
		}
	}
}

// TestAttempts: whatever a server takes a secret as, one of the attempts shows it so.
func TestAttempts(t *testing.T) {
	t.Parallel()
	attempts, err := leak.Attempts(t.Context(), "https://harbor.example.com/v2/", "hunter2", "robot")
	if err != nil {
		t.Fatal(err)
	}
	for name, taken := range map[string]func(*http.Request) bool{
		"a token":    func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer hunter2" },
		"a password": func(r *http.Request) bool { u, p, _ := r.BasicAuth(); return u == "robot" && p == "hunter2" },
		"a login":    func(r *http.Request) bool { return r.Header.Get("Authorization") == "Basic hunter2" },
		"a session":  func(r *http.Request) bool { c, err := r.Cookie("sid"); return err == nil && c.Value == "hunter2" },
	} {
		if !slices.ContainsFunc(attempts, taken) {
			t.Errorf("%s is not tried", name)
		}
	}
}
