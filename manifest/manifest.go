// Package manifest runs the core of Berth over files of Kubernetes manifests,
// and changes nothing in them but what the core changes.
//
// A stream is read as kubectl reads it: YAML documents separated by '---', or
// JSON objects one after the other. In it stand workloads, alone or in a List;
// their Pod templates go through package rewrite. Connectors and Namespaces in
// the stream count, as do those that the caller knows from elsewhere: they are
// the Surroundings. Whatever else stands there passes byte for byte.
//
// People keep manifests in version control, with comments, in an order and a
// style that mean something to them. So a document is never decoded and written
// anew. It is edited, in four steps:
//
//  1. The Pod template is decoded, rewritten, and the typed Pod before is
//     compared with the typed Pod after. Fields that this program's types do not
//     know are neither seen nor lost.
//  2. What differs is carried over to the decoded document: that is what the
//     text must say in the end.
//  3. The text is edited where it differs: a scalar is replaced in its place
//     and in its quotes, an entry is put after the last one of its list.
//  4. The text is decoded again, and must say what it was to say. Where it does
//     not (anchors and merge keys can make one line mean several places) it is
//     edited once more, at the places that still differ, by values in the place
//     of aliases. As a last resort the document is encoded anew with its
//     comments, and the report says so.
//
// So a text that comes out means what it was to mean, or there is an error; and
// because the core leaves alone what it has rewritten, twice is the same as once.
//
// The package does no I/O. Input may come from anyone: a document has at most
// MaxDocument bytes and MaxDepth levels, and aliases that multiply are refused.
package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

const (
	// MaxDocument is the most bytes of one document. An object in a cluster has at most 1.5 MiB; the rest is
	// for Lists.
	MaxDocument = 10 << 20
	// MaxStream is the most bytes of one stream.
	MaxStream = 40 << 20
	// MaxDepth is the most levels of lists and objects in one another.
	MaxDepth = 500
)

// byteOrderMark starts files that some editors write.
const byteOrderMark = "\ufeff"

// Stream is a file of manifests, parsed.
type Stream struct {
	name  string
	parts []part
}

// part is a piece of the text: a document, or what stands between two.
type part struct {
	text     []byte
	document *document // nil: no document
}

// InputError says that a stream cannot be read, and where.
type InputError struct {
	// File is the stream's name.
	File string
	// Document is its number in the stream, from 1; 0 where the error is about the stream.
	Document int
	// Line in the stream, from 1; 0 where it is not known.
	Line int
	// Err says what is wrong.
	Err error
}

// Error is 'FILE:LINE: document N: what is wrong'.
func (e *InputError) Error() string {
	return place(e.File, e.Line, e.Document) + oneLine(e.Err.Error())
}

// Unwrap returns Err.
func (e *InputError) Unwrap() error { return e.Err }

// place begins every message: it is spelt so that editors can jump there.
func place(file string, line, document int) string {
	text := oneLine(file)
	if line > 0 {
		text += fmt.Sprintf(":%d", line)
	}
	if document > 0 {
		text += fmt.Sprintf(": document %d", document)
	}
	return text + ": "
}

// Parse reads a stream. The name is for messages. The content is kept, and may
// not be changed afterwards. The error is an *InputError.
func Parse(name string, content []byte) (*Stream, error) {
	if len(content) > MaxStream {
		return nil, &InputError{File: name, Err: fmt.Errorf("has %d bytes, and a stream may have at most %d; split it", len(content), MaxStream)}
	}
	if !utf8.Valid(content) {
		return nil, &InputError{File: name, Err: errors.New("must be UTF-8 text")}
	}
	s := &Stream{name: name}
	content = s.cutMark(content)
	line, number := 1, 1
	for piece := range pieces(content) {
		parts, err := parsePiece(piece, line, number)
		if err != nil {
			return nil, s.locate(err)
		}
		for _, p := range parts {
			if p.document != nil {
				number++
			}
		}
		s.parts = append(s.parts, parts...)
		line += countBreaks(piece.text)
	}
	return s, nil
}

// cutMark puts a byte order mark aside: columns are counted without it.
func (s *Stream) cutMark(content []byte) []byte {
	rest, ok := bytes.CutPrefix(content, []byte(byteOrderMark))
	if ok {
		s.parts = append(s.parts, part{text: content[:len(byteOrderMark)]})
	}
	return rest
}

// locate fills the stream's name in.
func (s *Stream) locate(err error) error {
	var input *InputError
	if !errors.As(err, &input) {
		return &InputError{File: s.name, Err: err}
	}
	located := *input
	located.File = s.name
	return &located
}

// Bytes is the stream's text.
func (s *Stream) Bytes() []byte {
	var b bytes.Buffer
	for _, p := range s.parts {
		b.Write(p.text)
	}
	return b.Bytes()
}

// parsePiece parses the documents of a piece: one of YAML, or any number of JSON.
func parsePiece(p piece, line, number int) ([]part, error) {
	if !p.holdsDocument {
		return []part{{text: p.text}}, nil
	}
	if parts, ok, err := parseJSON(p, line, number); ok || err != nil {
		return parts, err
	}
	d := &document{text: p.text, line: line, number: number}
	if err := d.limit(); err != nil {
		return nil, err
	}
	if err := d.parse(); err != nil {
		return nil, err
	}
	d.forget()
	return []part{{text: p.text, document: d}}, nil
}

// forget drops the tree of a document that will pass: it is many times as large as the text.
func (d *document) forget() {
	if d.root != nil && !d.concerns() {
		d.root, d.foreign = nil, true
	}
}

// limit refuses a document that is too large to be one.
func (d *document) limit() error {
	if len(d.text) > MaxDocument {
		return d.fail(0, fmt.Errorf("has %d bytes, and a document may have at most %d; split it", len(d.text), MaxDocument))
	}
	return nil
}

// fail places an error at an offset of the document's text.
func (d *document) fail(offset int, err error) error {
	return &InputError{Document: d.number, Line: d.lineAt(offset), Err: err}
}

// lineAt is the line of the stream at an offset of the document's text.
func (d *document) lineAt(offset int) int {
	if d.lineStarts == nil {
		d.lineStarts = lineStarts(d.text)
	}
	index, found := slices.BinarySearch(d.lineStarts, offset)
	if !found {
		index--
	}
	return d.line + index
}
