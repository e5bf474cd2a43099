package manifest

import (
	"bytes"
	"iter"
	"unicode/utf8"
)

// piece is what stands between two document markers. Its marker belongs to it.
type piece struct {
	text          []byte
	body          int // offset where the document's content starts, behind directives and '---'
	holdsDocument bool
}

// pieces cuts a stream at the lines '---' and '...'. YAML forbids both, at the
// start of a line, in every scalar, so that no parser is needed to find them.
func pieces(content []byte) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		var c cutter
		for line := range lines(content) {
			if done, ok := c.add(line); ok && !yield(done) {
				return
			}
			if c.ended {
				if !yield(piece{text: line}) {
					return
				}
				c = cutter{}
			}
		}
		if len(c.text) > 0 {
			yield(c.piece())
		}
	}
}

// cutter gathers the lines of a piece.
type cutter struct {
	text    []byte
	body    int
	marked  bool // '---' was seen
	content bool // something but comments and directives was seen
	ended   bool // the line was '...'
}

// add takes a line, and returns the piece that it ends, if it ends one.
func (c *cutter) add(line []byte) (done piece, ok bool) {
	switch {
	case isMarker(line, "---"):
		if c.marked || c.content {
			done, ok = c.piece(), true
			*c = cutter{}
		}
		c.take(line)
		c.marked = true
		if rest := bytes.TrimSpace(line[3:]); len(rest) == 0 || rest[0] == '#' {
			c.body = len(c.text)
		} else {
			c.content, c.body = true, len(c.text)-len(line)+3
		}
		return done, ok
	case isMarker(line, "..."):
		done, ok = c.piece(), len(c.text) > 0
		*c = cutter{ended: true}
		return done, ok
	default:
		c.content = c.content || !isProlog(line)
		c.take(line)
		return piece{}, false
	}
}

// take makes the line a part of the piece; lines follow one another in memory.
func (c *cutter) take(line []byte) {
	if c.text == nil {
		c.text = line
		return
	}
	c.text = c.text[:len(c.text)+len(line)]
}

func (c *cutter) piece() piece {
	return piece{text: c.text, body: c.body, holdsDocument: c.marked || c.content}
}

func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	if !ok || len(rest) == 0 {
		return ok
	}
	return rest[0] == ' ' || rest[0] == '\t' || breakAt(rest) > 0
}

// isProlog reports whether a line, before any content, holds a directive, a comment or nothing.
func isProlog(line []byte) bool {
	text := bytes.TrimSpace(line)
	return len(text) == 0 || text[0] == '#' || line[0] == '%'
}

// lines yields the lines of a text, each with its line break.
func lines(text []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(text) > 0 {
			end := lineEnd(text, 0)
			end += breakAt(text[end:])
			if !yield(text[:end]) {
				return
			}
			text = text[end:]
		}
	}
}

// lineEnd is the offset, at or after the given one, of the line break or of the text's end.
func lineEnd(text []byte, offset int) int {
	for offset < len(text) && breakAt(text[offset:]) == 0 {
		offset++
	}
	return offset
}

// breakAt is the length of the line break that the text starts with, or 0. The
// breaks are those of YAML 1.1, by which the YAML libraries count lines.
func breakAt(text []byte) int {
	if len(text) == 0 {
		return 0
	}
	switch text[0] {
	case '\n':
		return 1
	case '\r':
		if len(text) > 1 && text[1] == '\n' {
			return 2
		}
		return 1
	case 0xC2, 0xE2:
		if r, n := utf8.DecodeRune(text); r == '\u0085' || r == '\u2028' || r == '\u2029' {
			return n
		}
	}
	return 0
}

func countBreaks(text []byte) int {
	count := 0
	for at := 0; at < len(text); {
		n := breakAt(text[at:])
		if n > 0 {
			count++
		}
		at += max(n, 1)
	}
	return count
}
