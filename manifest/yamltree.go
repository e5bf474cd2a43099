package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// document is one document of a stream.
type document struct {
	text   []byte
	line   int // of the stream, where text starts
	number int // in the stream, from 1
	json   bool
	root   *node // nil: the document is empty, or foreign
	// foreign: a document of a kind that passes; its tree is not kept.
	foreign bool
	// located: the places of all nodes are known, so that the text can be edited.
	located bool
	// lineStarts are the offsets of the text's lines; nil until they are asked for.
	lineStarts []int
}

// parse fills root in.
func (d *document) parse() error {
	if d.json {
		root, _, err := readJSON(d.text)
		d.root, d.located = root, true
		return err
	}
	y, err := d.decodeNode()
	if err != nil {
		return err
	}
	if y == nil {
		return nil
	}
	r := yamlReader{text: d.text, nodes: map[*yaml.Node]*node{}, lineStarts: lineStarts(d.text)}
	root := r.read(y.Content[0], -1, 0)
	if r.tooDeep {
		return d.fail(0, errTooDeep)
	}
	if root.shape == scalar && root.value == "" && root.quote == 0 {
		return nil
	}
	d.root, d.located = root, !r.lost
	return nil
}

var errTooDeep = fmt.Errorf("nests more than %d levels deep", MaxDepth)

// decodeNode parses the text as one YAML document; nil where there is none.
func (d *document) decodeNode() (*yaml.Node, error) {
	var y, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(d.text))
	switch err := decoder.Decode(&y); {
	case errors.Is(err, io.EOF):
		return nil, nil //nolint:nilnil // an empty document is no error
	case err != nil:
		return nil, d.syntaxError(err)
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("goes on after its end; write '---' between documents")
		}
		return nil, d.syntaxError(err)
	}
	return &y, nil
}

// syntaxError turns the parser's line, which counts from the document's start, into the stream's.
func (d *document) syntaxError(err error) error {
	located := regexp.MustCompile(`^yaml: line (\d+): `)
	text := err.Error()
	match := located.FindStringSubmatch(text)
	if match == nil {
		return d.fail(0, err)
	}
	line, _ := strconv.Atoi(match[1])
	return &InputError{Document: d.number, Line: d.line + max(line-1, 0), Err: fmt.Errorf("not YAML: %s", text[len(match[0]):])}
}

// yamlReader finds out where the nodes of a YAML document stand. The parser
// tells where each starts; where each ends follows from its kind.
type yamlReader struct {
	text       []byte
	lineStarts []int
	nodes      map[*yaml.Node]*node
	// cursor is the place that was asked for last: a long line is walked once.
	cursorLine, cursorColumn, cursorOffset int
	lost                                   bool
	tooDeep                                bool
}

func lineStarts(text []byte) []int {
	starts := []int{0}
	at := 0
	for line := range lines(text) {
		at += len(line)
		starts = append(starts, at)
	}
	return starts
}

// offset of a line and column, both from 1; columns count characters.
func (r *yamlReader) offset(line, column int) int {
	if line < 1 || line > len(r.lineStarts) {
		r.lost = true
		return 0
	}
	at, from := r.lineStarts[line-1], 1
	if line == r.cursorLine && column >= r.cursorColumn {
		at, from = r.cursorOffset, r.cursorColumn
	}
	for ; from < column && at < len(r.text); from++ {
		_, n := utf8.DecodeRune(r.text[at:])
		at += n
	}
	r.cursorLine, r.cursorColumn, r.cursorOffset = line, column, at
	return at
}

// read converts a node that stands in a collection of the given indentation.
func (r *yamlReader) read(y *yaml.Node, indent, depth int) *node {
	n := &node{value: y.Value}
	r.nodes[y] = n
	if depth > MaxDepth {
		r.tooDeep = true
		return n
	}
	n.start = r.skipProperties(r.offset(y.Line, y.Column), y)
	switch y.Kind {
	case yaml.AliasNode:
		n.shape, n.target = alias, r.nodes[y.Alias]
		n.end = r.nameEnd(n.start + 1)
		r.lost = r.lost || n.target == nil
	case yaml.MappingNode, yaml.SequenceNode:
		r.readCollection(n, y, depth)
	default:
		n.quote = quoteOf(y.Style)
		n.end = r.scalarEnd(n, indent)
	}
	r.lost = r.lost || n.end < n.start || n.end > len(r.text)
	return n
}

func quoteOf(style yaml.Style) byte {
	switch {
	case style&yaml.DoubleQuotedStyle != 0:
		return '"'
	case style&yaml.SingleQuotedStyle != 0:
		return '\''
	case style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return '|'
	default:
		return 0
	}
}

func (r *yamlReader) readCollection(n *node, y *yaml.Node, depth int) {
	n.shape, n.flow = sequence, y.Style&yaml.FlowStyle != 0
	if y.Kind == yaml.MappingNode {
		n.shape = mapping
	}
	if !n.flow {
		n.indent = r.column(n.start)
	}
	for i, c := range y.Content {
		child := r.read(c, n.indent, depth+1)
		if n.shape == mapping && i%2 == 0 {
			n.keys = append(n.keys, child)
		} else {
			n.values = append(n.values, child)
		}
	}
	n.end = n.start
	if last := n.last(); last != nil {
		n.end = last.end
	}
	if n.flow {
		n.end = r.closer(n)
	}
}

// column of an offset, from 0.
func (r *yamlReader) column(offset int) int {
	return utf8.RuneCount(r.text[lineStart(r.text, offset):offset])
}

func endsInBreak(text []byte) bool {
	if last := text[len(text)-1]; last == '\n' || last == '\r' {
		return true
	}
	last, _ := utf8.DecodeLastRune(text)
	return last == '\u0085' || last == '\u2028' || last == '\u2029'
}
