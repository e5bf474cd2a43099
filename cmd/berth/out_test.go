package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParentCredential(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		content, want string
		ok            bool
	}{
		"a line":        {"berth:pass:word", "berth:pass:word", true},
		"with its end":  {"berth:password\r\n", "berth:password", true},
		"no colon":      {"password", "", false},
		"two lines":     {"berth:password\nX-Injected: yes", "", false},
		"nothing in it": {"", "", false},
		"too long":      {"berth:" + strings.Repeat("x", mostCredential), "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := outOptions{credential: filepath.Join(t.TempDir(), "credential")}
			if err := os.WriteFile(o.credential, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := o.read()
			if got != tc.want || (err == nil) != tc.ok {
				t.Errorf("read returns %q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "password") {
				t.Errorf("the error holds the credential: %v", err)
			}
		})
	}
	if got, err := (&outOptions{}).read(); got != "" || err != nil {
		t.Errorf("without a file: %q, %v", got, err)
	}
	if _, err := (&outOptions{credential: filepath.Join(t.TempDir(), "none")}).read(); err == nil {
		t.Error("a file that is not there is read")
	}
}
