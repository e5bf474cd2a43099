package manifest

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// The ends of YAML nodes. Where one is not found the reader is lost, and the
// text is not edited by it; what is found wrongly is found out by decoding the
// edited text.

// skipProperties steps over a node's anchor and tag, to its own text.
func (r *yamlReader) skipProperties(at int, y *yaml.Node) int {
	if y.Kind == yaml.AliasNode {
		return at
	}
	for at < len(r.text) && (y.Anchor != "" && r.text[at] == '&' || y.Style&yaml.TaggedStyle != 0 && r.text[at] == '!') {
		end := r.propertyEnd(at)
		if next := r.skipBlank(end); next < len(r.text) && !emptyScalar(y) {
			end = next
		}
		at = end
	}
	return at
}

// propertyEnd is the end of an anchor or a tag: where a blank or, in a flow collection, an indicator stands.
func (r *yamlReader) propertyEnd(at int) int {
	if r.text[at] == '&' {
		return r.nameEnd(at + 1)
	}
	if bytes.HasPrefix(r.text[at:], []byte("!<")) {
		return at + max(bytes.IndexByte(r.text[at:], '>')+1, 1)
	}
	for at < len(r.text) && !isBlank(r.text[at:]) && strings.IndexByte(",[]{}", r.text[at]) < 0 {
		at++
	}
	return at
}

func emptyScalar(y *yaml.Node) bool {
	return y.Kind == yaml.ScalarNode && y.Value == "" && quoteOf(y.Style) == 0
}

func isBlank(text []byte) bool {
	return text[0] == ' ' || text[0] == '\t' || breakAt(text) > 0
}

// skipBlank steps over spaces, line breaks and comments.
func (r *yamlReader) skipBlank(at int) int {
	for at < len(r.text) {
		switch {
		case isBlank(r.text[at:]):
			at += max(breakAt(r.text[at:]), 1)
		case r.text[at] == '#':
			at = lineEnd(r.text, at)
		default:
			return at
		}
	}
	return at
}

// nameEnd is the end of an anchor's name.
func (r *yamlReader) nameEnd(at int) int {
	for at < len(r.text) {
		c := r.text[at]
		if c != '-' && c != '_' && !unicode.In(rune(c), unicode.Letter, unicode.Digit) || c >= utf8.RuneSelf {
			break
		}
		at++
	}
	return at
}

// scalarEnd finds the end of a scalar that stands in a collection of the given indentation.
func (r *yamlReader) scalarEnd(n *node, indent int) int {
	switch n.quote {
	case '"':
		return r.quotedEnd(n.start, '"', '\\')
	case '\'':
		return r.quotedEnd(n.start, '\'', '\'')
	case '|':
		return r.blockEnd(n.start, indent)
	default:
		return r.plainEnd(n.start, n.value)
	}
}

// quotedEnd is behind the closing quote. In double quotes '\' escapes what
// follows, in single quotes a quote escapes a quote.
func (r *yamlReader) quotedEnd(start int, quote, escape byte) int {
	for at := start + 1; at < len(r.text); at++ {
		switch {
		case r.text[at] == escape && escape != quote:
			at++
		case r.text[at] == quote && escape == quote && at+1 < len(r.text) && r.text[at+1] == quote:
			at++
		case r.text[at] == quote:
			return at + 1
		}
	}
	r.lost = true
	return start
}

// plainEnd walks over the text as long as it spells the value: a plain scalar
// has no escapes, but its lines may be folded.
func (r *yamlReader) plainEnd(start int, value string) int {
	at := start
	for rest := value; rest != ""; {
		c, n := utf8.DecodeRuneInString(rest)
		if !unicode.IsSpace(c) {
			if at >= len(r.text) || !bytes.HasPrefix(r.text[at:], []byte(rest[:n])) {
				r.lost = true
				return start
			}
			at += n
			rest = rest[n:]
			continue
		}
		for rest != "" && unicode.IsSpace(c) {
			rest = rest[n:]
			c, n = utf8.DecodeRuneInString(rest)
		}
		for at < len(r.text) && isBlank(r.text[at:]) {
			at += max(breakAt(r.text[at:]), 1)
		}
	}
	return at
}

// blockEnd is at the end of the last line of a block scalar: the lines that are
// indented as much as its first. With '+' the empty lines behind belong to it.
func (r *yamlReader) blockEnd(start, indent int) int {
	end := lineEnd(r.text, start)
	keeps := bytes.IndexByte(r.text[start:end], '+') >= 0
	content := -1
	for at := end; at < len(r.text); {
		at += breakAt(r.text[at:])
		stop := lineEnd(r.text, at)
		line := r.text[at:stop]
		depth := len(line) - len(bytes.TrimLeft(line, " "))
		empty := depth == len(line)
		switch {
		case !empty && depth <= indent, !empty && content >= 0 && depth < content:
			return end
		case !empty:
			content, end = depth, stop
		case keeps:
			end = stop
		}
		if !empty && content > depth {
			content = depth
		}
		at = stop
	}
	return end
}

// closer finds the bracket that closes a flow collection, behind its last entry.
func (r *yamlReader) closer(n *node) int {
	open, closing := byte('['), byte(']')
	if n.shape == mapping {
		open, closing = '{', '}'
	}
	if n.start >= len(r.text) || r.text[n.start] != open {
		return n.end // '[a: b]': the object in the list has no brackets
	}
	at := max(n.end, n.start+1)
	for at < len(r.text) && r.text[at] != closing {
		next := r.skipBlank(at)
		if next < len(r.text) && r.text[next] == ',' {
			next++
		}
		if next == at {
			r.lost = true
			return n.end
		}
		at = next
	}
	if at >= len(r.text) {
		r.lost = true
		return n.end
	}
	return at + 1
}
