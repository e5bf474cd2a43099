package bearer

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

const redacted = "[redacted]"

// Token opens some scopes of a registry for a while. However it is printed,
// logged or encoded, also as a field of something else, it says [redacted].
// The zero value is no token.
type Token struct {
	// Issued is when it was asked for, Expires when it is good no longer, by the clock of this machine.
	Issued, Expires time.Time
	// reveal is a function so that reflection, which reads unexported fields, finds an address and no text.
	reveal func() (text string, header []string)
}

func newToken(text string, issued, expires time.Time) Token {
	header := []string{"Bearer " + text}
	return Token{Issued: issued, Expires: expires, reveal: func() (string, []string) { return text, header }}
}

// IsZero reports whether there is no token.
func (t Token) IsZero() bool { return t.reveal == nil }

// Authorize puts the token into a request, in the place of any credential that is there.
func (t Token) Authorize(r *http.Request) {
	if t.IsZero() {
		delete(r.Header, "Authorization")
		return
	}
	_, r.Header["Authorization"] = t.reveal()
}

// In reports whether a text holds the token.
func (t Token) In(text string) bool {
	if t.IsZero() {
		return false
	}
	token, _ := t.reveal()
	return strings.Contains(text, token)
}

// Format implements fmt.Formatter for every verb.
func (Token) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, redacted) }

// MarshalText implements encoding.TextMarshaler, for JSON and YAML too.
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Token) LogValue() slog.Value { return slog.StringValue(redacted) }
