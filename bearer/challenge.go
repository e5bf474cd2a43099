package bearer

import (
	"iter"
	"net/http"
	"strings"
)

const (
	// mostScopes and maxScopes, in characters, are more than any request needs.
	mostScopes = 16
	maxScopes  = 4 << 10
	// maxChallenge is how long a header that holds a challenge may be.
	maxChallenge = 8 << 10
)

// InvalidToken is the Error of a Challenge that follows a token which expired, was revoked or is malformed (RFC 6750 §3.1).
const InvalidToken = "invalid_token"

// Challenge is what a registry that has a token service says in a 401.
type Challenge struct {
	// Realm is the URL of the token service. Nobody has looked at it yet: see Trust.
	Realm string
	// Service is the name of the registry at the token service; it may be empty.
	Service string
	// Scopes are those that the refused request needs; there may be none.
	Scopes []Scope
	// Error says what was wrong with a token, in one word; it may be empty.
	Error string
}

// ParseChallenge returns the first Bearer challenge in the header of a response
// (RFC 9110 §11.6.1: several challenges may stand in one line, and in several).
func ParseChallenge(h http.Header) (c Challenge, ok bool) {
	for _, line := range h["Www-Authenticate"] {
		if len(line) > maxChallenge {
			continue
		}
		for scheme, parameters := range challenges(line) {
			if strings.EqualFold(scheme, "bearer") && parameters["realm"] != "" {
				return Challenge{
					Realm: parameters["realm"], Service: parameters["service"],
					Scopes: parseScopes(parameters["scope"]), Error: parameters["error"],
				}, true
			}
		}
	}
	return Challenge{}, false
}

// parseScopes reads a list of scopes with spaces in between; none where there are too many to be true.
func parseScopes(list string) []Scope {
	if len(list) > maxScopes {
		return nil
	}
	var scopes []Scope
	for one := range strings.FieldsSeq(list) {
		if !visible(one) || len(scopes) == mostScopes {
			return nil
		}
		scopes = append(scopes, Scope(one))
	}
	return scopes
}

// visible reports whether a text is of visible ASCII characters alone.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// challenges yields the challenges of one line with their parameters, whose
// names are in lower case. It ends where the grammar does.
//
//	challenges = challenge *( "," challenge )
//	challenge  = scheme [ SP ( token68 | parameter *( "," parameter ) ) ]
//	parameter  = token "=" ( token | quoted-string )
func challenges(line string) iter.Seq2[string, map[string]string] {
	return func(yield func(string, map[string]string) bool) {
		l := &lexer{rest: line}
		scheme, parameters := "", map[string]string{}
		for l.next() {
			word := l.token()
			switch value, isParameter := l.value(); {
			case word == "" || isParameter && scheme == "":
				l.rest = ""
			case isParameter:
				if name := strings.ToLower(word); parameters[name] == "" { // the first one counts
					parameters[name] = value
				}
			default:
				if scheme != "" && !yield(scheme, parameters) {
					return
				}
				scheme, parameters = word, map[string]string{}
			}
		}
		if scheme != "" {
			yield(scheme, parameters)
		}
	}
}

// lexer reads a line from its start.
type lexer struct{ rest string }

// next skips what separates, and reports whether there is more.
func (l *lexer) next() bool {
	l.rest = strings.TrimLeft(l.rest, " \t,")
	return l.rest != ""
}

// token takes a token (RFC 9110 §5.6.2), which is empty where there is none.
func (l *lexer) token() string {
	end := 0
	for end < len(l.rest) && isTokenCharacter(l.rest[end]) {
		end++
	}
	token := l.rest[:end]
	l.rest = l.rest[end:]
	return token
}

func isTokenCharacter(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// value takes the "=" after a parameter's name, and its value.
func (l *lexer) value() (value string, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimLeft(l.rest, " \t"), "=")
	if !ok {
		return "", false
	}
	l.rest = strings.TrimLeft(rest, " \t")
	if strings.HasPrefix(l.rest, `"`) {
		return l.quoted(), true
	}
	end := strings.IndexAny(l.rest, ", \t")
	if end < 0 {
		end = len(l.rest)
	}
	value = l.rest[:end]
	l.rest = l.rest[end:]
	return value, true
}

// quoted takes a quoted-string (RFC 9110 §5.6.4); one without an end is empty, and ends the line.
func (l *lexer) quoted() string {
	var text strings.Builder
	for i := 1; i < len(l.rest); i++ {
		switch c := l.rest[i]; {
		case c == '"':
			l.rest = l.rest[i+1:]
			return text.String()
		case c == '\\' && i+1 < len(l.rest):
			i++
			text.WriteByte(l.rest[i])
		default:
			text.WriteByte(c)
		}
	}
	l.rest = ""
	return ""
}
