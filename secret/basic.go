package secret

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
)

const redacted = "[redacted]"

// Basic is a user name and a password (RFC 7617). However it is printed,
// logged or encoded, also as a field of something else, it says [redacted]. The
// zero value is no credential.
type Basic struct {
	// reveal is a function so that reflection, which reads unexported fields, finds an address and no text.
	reveal func() *login
}

// login is a credential in the clear, and the header that it becomes.
type login struct {
	username, password, encoded string
	header                      []string
}

// NewBasic returns the credential of a user name and a password.
func NewBasic(username, password string) Basic {
	encoded := base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
	l := &login{username: username, password: password, encoded: encoded, header: []string{"Basic " + encoded}}
	return Basic{reveal: func() *login { return l }}
}

// IsZero reports whether there is no credential.
func (b Basic) IsZero() bool { return b.reveal == nil }

// Equal reports whether both are the same user name and password.
func (b Basic) Equal(o Basic) bool {
	if b.IsZero() || o.IsZero() {
		return b.IsZero() && o.IsZero()
	}
	l, m := b.reveal(), o.reveal()
	return l.username == m.username && l.password == m.password
}

// Authorize puts the credential into a request, in the place of any that is there.
func (b Basic) Authorize(r *http.Request) {
	if b.IsZero() {
		r.Header.Del("Authorization")
		return
	}
	r.Header["Authorization"] = b.reveal().header
}

// In reports whether a text holds the credential in the form that requests carry it in.
func (b Basic) In(text string) bool {
	return !b.IsZero() && strings.Contains(text, b.reveal().encoded)
}

// Format implements fmt.Formatter for every verb.
func (Basic) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, redacted) }

// MarshalText implements encoding.TextMarshaler, for JSON and YAML too.
func (Basic) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Basic) LogValue() slog.Value { return slog.StringValue(redacted) }
