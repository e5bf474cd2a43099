package manifest

import "bytes"

// Join writes streams one after the other as one stream. A single stream is
// written byte for byte.
func Join(streams []*Stream) []byte {
	var out bytes.Buffer
	for i, s := range streams {
		text := s.Bytes()
		if i > 0 {
			text = bytes.TrimPrefix(text, []byte(byteOrderMark))
			out.WriteString(separator(out.Bytes(), text, s.isJSON() && streams[i-1].isJSON()))
		}
		out.Write(text)
	}
	return out.Bytes()
}

// isJSON reports whether the stream's documents are JSON, which needs nothing between them.
func (s *Stream) isJSON() bool {
	for _, p := range s.parts {
		if p.document != nil && !p.document.json {
			return false
		}
	}
	return true
}

// separator is what must stand between two texts so that their documents stay apart.
func separator(before, after []byte, json bool) string {
	if len(bytes.TrimSpace(before)) == 0 || len(bytes.TrimSpace(after)) == 0 {
		return ""
	}
	text := ""
	if !endsInBreak(before) {
		text = "\n"
	}
	if json {
		return text
	}
	for line := range lines(after) {
		switch {
		case isMarker(line, "---"):
			return text
		case line[0] == '%':
			return text + "...\n"
		case !isProlog(line):
			return text + "---\n"
		}
	}
	return text + "---\n"
}
