package secret

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
)

const redacted = "[redacted]"

// Basic is a user name and a password (RFC 7617). However it is printed,
// logged or encoded, also as a field of something else, it says [redacted]. The
// zero value is no credential.
type Basic struct {
	// reveal is a function so that reflection, which reads unexported fields, finds an address and no text.
	reveal func() (username, password string)
}

// NewBasic returns the credential of a user name and a password.
func NewBasic(username, password string) Basic {
	return Basic{reveal: func() (string, string) { return username, password }}
}

// IsZero reports whether there is no credential.
func (b Basic) IsZero() bool { return b.reveal == nil }

// Equal reports whether both are the same user name and password.
func (b Basic) Equal(o Basic) bool {
	if b.IsZero() || o.IsZero() {
		return b.IsZero() && o.IsZero()
	}
	u1, p1 := b.reveal()
	u2, p2 := o.reveal()
	return u1 == u2 && p1 == p2
}

// Authorize puts the credential into a request, in the place of any that is there.
func (b Basic) Authorize(r *http.Request) {
	if b.IsZero() {
		r.Header.Del("Authorization")
		return
	}
	r.SetBasicAuth(b.reveal())
}

// Format implements fmt.Formatter for every verb.
func (Basic) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, redacted) }

// MarshalText implements encoding.TextMarshaler, for JSON and YAML too.
func (Basic) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Basic) LogValue() slog.Value { return slog.StringValue(redacted) }
