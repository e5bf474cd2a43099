package egress_test

import (
	"errors"
	"testing"

	"berth.dev/berth/egress"
)

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for authority, want := range map[string]egress.Target{
		"harbor.example.com:443":    {"harbor.example.com", "443"},
		"Harbor.Example.COM.:8443":  {"harbor.example.com", "8443"},
		"harbor.example.com":        {"harbor.example.com", "443"},
		"a_b.example.com:1":         {"a_b.example.com", "1"},
		"10.0.0.1:65535":            {"10.0.0.1", "65535"},
		"[2001:DB8::1]:443":         {"2001:db8::1", "443"},
		"[2001:db8:0:0:0:0:0:1]":    {"2001:db8::1", "443"},
		"[::ffff:127.0.0.1]:443":    {"127.0.0.1", "443"},
		"[::ffff:7f00:1]:443":       {"127.0.0.1", "443"},
		"xn--bcher-kva.example:443": {"xn--bcher-kva.example", "443"},
	} {
		if got, err := egress.ParseTarget(authority, "443"); err != nil || got != want {
			t.Errorf("ParseTarget(%q) = %v, %v, want %v", authority, got, err, want)
		}
	}
}

func TestParseTargetRefuses(t *testing.T) {
	t.Parallel()
	for _, authority := range []string{
		"", ":443", ".", "..:443", "a..b:443", ".a:443", "a.:", "a:0", "a:65536", "a:+1", "a:01", "a:-1", "a: 443", "a:443:443", "a:https",
		"user@harbor.example.com:443", "user:pass@harbor.example.com:443", "harbor.example.com@evil.example:443", "a/b:443", "a?b:443", "a#b:443", `a\b:443`, "a b:443", "a%2eb:443", "ä.example:443", "a\x00b:443",
		"0177.0.0.1:443", "127.1:443", "0x7f.0.0.1:443", "0x7f000001:443", "2130706433:443", "1.2.3:443", "1.2.3.4.5:443", "999.1.1.1:443", "010.0.0.1:443", "a.0x7f:443",
		"::1:443", "2001:db8::1", "[::1", "::1]", "[::1]443", "[::1]:", "[::1]x:443", "[fe80::1%eth0]:443", "[127.0.0.1]:443", "[harbor.example.com]:443", "[]:443", "[[::1]]:443", "[::1]]:443", "a]:443", "[::1]:443]",
	} {
		if got, err := egress.ParseTarget(authority, "443"); !errors.Is(err, egress.ErrHost) {
			t.Errorf("ParseTarget(%q) = %v, %v, want %v", authority, got, err, egress.ErrHost)
		}
	}
}

// What is read once means the same when it is read again.
func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"harbor.example.com:443", "[2001:db8::1]:1", "[::ffff:1.2.3.4]", "10.0.0.1:80", "A.B.:2", "a@b:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		target, err := egress.ParseTarget(authority, "443")
		if err != nil {
			return
		}
		host := target.Host
		for _, c := range host {
			if c >= 'A' && c <= 'Z' || c == '@' || c == '/' || c == '%' || c == '[' {
				t.Fatalf("the host of %q is %q", authority, host)
			}
			if c == ':' {
				host = "[" + target.Host + "]"
			}
		}
		if again, err := egress.ParseTarget(host+":"+target.Port, "1"); err != nil || again != target {
			t.Errorf("%q is %v, and then %v, %v", authority, target, again, err)
		}
	})
}
