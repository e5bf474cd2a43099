// Package leak looks for credentials in what came out of Berth, in every form
// that they have on the wire, and for whatever else a registry might take in
// their stead.
package leak

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Forms returns the spellings of secrets that a text with them may hold: as they are, percent-encoded, and in Base64 of
// either alphabet, wherever in the encoded text they begin and end.
func Forms(secrets ...string) []string {
	var forms []string
	for _, secret := range secrets {
		forms = append(forms, secret, url.QueryEscape(secret), url.PathEscape(secret))
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			for offset := range 3 {
				form := aligned(encoding, secret, offset)
				forms = append(forms, form, url.QueryEscape(form))
			}
		}
	}
	slices.Sort(forms)
	return slices.Compact(forms)
}

// aligned encodes a secret that stands that many bytes behind the beginning of three, without the characters that what
// is beside it has a part in.
func aligned(encoding *base64.Encoding, secret string, offset int) string {
	encoded := encoding.EncodeToString(append(make([]byte, offset), secret...))
	mixed := []int{0, 2, 3}
	if (offset+len(secret))%3 != 0 {
		encoded = encoded[:len(encoded)-1]
	}
	return encoded[mixed[offset]:]
}

// Find returns a form that a text holds, or nothing.
func Find(text string, forms []string) string {
	for _, form := range forms {
		if strings.Contains(text, form) {
			return form
		}
	}
	return ""
}

// alike is what a password, a token, a cookie or a session may look like.
var alike = regexp.MustCompile(`[A-Za-z0-9._~+/=$%-]{6,}`)

// Candidates returns all of a text that may be worth something at a registry, each once.
func Candidates(text string) []string {
	var found []string
	for _, one := range alike.FindAllString(text, -1) {
		unescaped, err := url.PathUnescape(one)
		if err != nil {
			unescaped = one
		}
		for _, spelling := range []string{one, unescaped} {
			found = append(found, spelling)
			if _, value, ok := strings.Cut(spelling, "="); ok { // a cookie, a parameter
				found = append(found, value)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// Attempts returns a request for an address for each way to sign in with a candidate: as a token, as a password of the
// candidate itself and of the users, and as a session.
func Attempts(ctx context.Context, address, candidate string, users ...string) ([]*http.Request, error) {
	basic := func(user string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+candidate))
	}
	headers := []struct{ name, value string }{
		{"Authorization", "Bearer " + candidate},
		{"Authorization", "Basic " + candidate},
		{"Authorization", basic(candidate)},
		{"Cookie", candidate},
		{"Cookie", "sid=" + candidate},
	}
	for _, user := range users {
		headers = append(headers, struct{ name, value string }{"Authorization", basic(user)})
	}
	all := make([]*http.Request, len(headers))
	for i, header := range headers {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set(header.name, header.value)
		all[i] = r
	}
	return all, nil
}
