package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// parseJSON parses a piece that holds JSON objects, one after the other. JSON
// is not left to the YAML parser, which reads some strings differently. What is
// not JSON is for that parser: '{a: b}' is YAML. The line is that of the piece.
func parseJSON(p piece, line, number int) (parts []part, ok bool, err error) {
	if body := bytes.TrimLeft(p.text[p.body:], " \t\r\n"); len(body) == 0 || body[0] != '{' {
		return nil, false, nil
	}
	at := 0
	for skip := p.body; ; skip = 0 {
		rest := p.text[at:]
		start := skip + len(rest[skip:]) - len(bytes.TrimLeft(rest[skip:], " \t\r\n"))
		if start > 0 {
			parts = append(parts, part{text: rest[:start]})
		}
		if start == len(rest) {
			return parts, true, nil
		}
		line += countBreaks(rest[:start])
		d := &document{text: rest[start:], line: line, number: number, json: true, located: true}
		if d.text[0] != '{' {
			return nil, false, nil
		}
		root, end, err := readJSON(d.text)
		if errors.Is(err, errTooDeep) {
			return nil, false, d.fail(0, err)
		}
		if err != nil {
			return nil, false, nil //nolint:nilerr // it may be YAML
		}
		d.text, d.root = d.text[:end], root
		if err := d.limit(); err != nil {
			return nil, false, err
		}
		d.forget()
		parts = append(parts, part{text: d.text, document: d})
		line += countBreaks(d.text)
		at += start + end
		number++
	}
}

// readJSON reads the first value of a text, and returns where it ends.
func readJSON(text []byte) (root *node, end int, err error) {
	r := jsonReader{text: text, decoder: json.NewDecoder(bytes.NewReader(text))}
	r.decoder.UseNumber()
	root, err = r.read(0)
	return root, int(r.decoder.InputOffset()), err
}

// jsonReader builds the tree of a JSON value, with the place of each node.
type jsonReader struct {
	text    []byte
	decoder *json.Decoder
}

func (r *jsonReader) read(depth int) (*node, error) {
	if depth > MaxDepth {
		return nil, errTooDeep
	}
	before := int(r.decoder.InputOffset())
	token, err := r.decoder.Token()
	if err != nil {
		return nil, err
	}
	end := int(r.decoder.InputOffset())
	n := &node{start: r.skip(before), end: end}
	switch token := token.(type) {
	case json.Delim:
		return n, r.readCollection(n, token, depth)
	case string:
		n.value, n.quote = token, '"'
	default:
		n.value = string(r.text[n.start:end])
	}
	return n, nil
}

// skip steps over what stands between two tokens.
func (r *jsonReader) skip(at int) int {
	for at < len(r.text) && strings.IndexByte(" \t\r\n,:", r.text[at]) >= 0 {
		at++
	}
	return at
}

func (r *jsonReader) readCollection(n *node, open json.Delim, depth int) error {
	n.flow, n.shape = true, sequence
	if open == '{' {
		n.shape = mapping
	}
	for r.decoder.More() {
		child, err := r.read(depth + 1)
		if err != nil {
			return err
		}
		if n.shape == mapping && len(n.keys) == len(n.values) {
			n.keys = append(n.keys, child)
		} else {
			n.values = append(n.values, child)
		}
	}
	_, err := r.decoder.Token() // the closing bracket
	n.end = int(r.decoder.InputOffset())
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
