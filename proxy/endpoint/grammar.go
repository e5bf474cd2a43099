package endpoint

import "strings"

// How many characters names have at most.
const (
	MaxRepository = 255
	MaxTag        = 128
)

const (
	maxDigest        = 255
	maxUpload        = 512
	sha256Characters = 64
	sha512Characters = 128
)

// IsRepository reports whether s is the name of a repository.
func IsRepository(s string) bool {
	if len(s) > MaxRepository {
		return false
	}
	for component := range strings.SplitSeq(s, "/") {
		if !isComponent(component) {
			return false
		}
	}
	return true
}

// isComponent reports whether s is runs of letters and digits with a separator between each two.
func isComponent(s string) bool {
	for {
		s2 := strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyz0123456789")
		if len(s2) == len(s) {
			return false
		}
		if s2 == "" {
			return true
		}
		s = cutSeparator(s2)
	}
}

// cutSeparator takes one separator off the start of s, if one is there.
func cutSeparator(s string) string {
	switch {
	case s[0] == '-':
		return strings.TrimLeft(s, "-")
	case strings.HasPrefix(s, "__"):
		return s[2:]
	case s[0] == '.', s[0] == '_':
		return s[1:]
	}
	return s
}

// IsTag reports whether s is a tag.
func IsTag(s string) bool {
	return s != "" && len(s) <= MaxTag && s[0] != '.' && s[0] != '-' && consistsOf(s, isTagCharacter)
}

// IsDigest reports whether s is a digest.
func IsDigest(s string) bool {
	algorithm, encoded, ok := strings.Cut(s, ":")
	if !ok || len(s) > maxDigest {
		return false
	}
	switch algorithm {
	case "sha256":
		return len(encoded) == sha256Characters && consistsOf(encoded, isHex)
	case "sha512":
		return len(encoded) == sha512Characters && consistsOf(encoded, isHex)
	}
	return isAlgorithm(algorithm) && encoded != "" && consistsOf(encoded, isEncodedCharacter)
}

// isAlgorithm reports whether s is runs of letters and digits with one of '+', '.', '_', '-' between each two.
func isAlgorithm(s string) bool {
	for {
		at := strings.IndexAny(s, "+._-")
		if at < 0 {
			return s != "" && consistsOf(s, isLowerOrDigit)
		}
		if at == 0 || !consistsOf(s[:at], isLowerOrDigit) {
			return false
		}
		s = s[at+1:]
	}
}

func consistsOf(s string, in func(byte) bool) bool {
	for i := range len(s) {
		if !in(s[i]) {
			return false
		}
	}
	return true
}

func isLowerOrDigit(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func isLetterOrDigit(c byte) bool { return isLowerOrDigit(c) || c >= 'A' && c <= 'Z' }

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

func isTagCharacter(c byte) bool { return isLetterOrDigit(c) || c == '_' || c == '.' || c == '-' }

func isEncodedCharacter(c byte) bool { return isLetterOrDigit(c) || c == '=' || c == '_' || c == '-' }

// IsUpload reports whether s may name an upload. The registry chooses the name,
// so anything goes that means the same to every server: what RFC 3986 calls
// unreserved and '='. It does not start with '.', as no tag does.
func IsUpload(s string) bool {
	return s != "" && len(s) <= maxUpload && s[0] != '.' && consistsOf(s, isUploadCharacter)
}

func isUploadCharacter(c byte) bool { return isTagCharacter(c) || c == '=' || c == '~' }
