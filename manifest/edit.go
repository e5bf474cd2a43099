package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// errNotInPlace: the text cannot be edited, and the document must be encoded anew.
var errNotInPlace = errors.New("cannot be edited in place")

// edited returns the document's text changed so that it means what is wanted.
// If reencoded, comments are kept, but not the layout.
func (d *document) edited(have, want any) (out *document, reencoded bool, err error) {
	current := d
	for _, override := range []bool{false, true} {
		next, err := current.editOnce(have, want, override)
		if err != nil {
			break
		}
		if have, err = next.understood(); err != nil {
			break
		}
		if equal(have, want) {
			return next, false, nil
		}
		current = next
	}
	have, err = d.decode()
	if err != nil {
		return nil, false, err
	}
	out, err = d.reencoded(have, want)
	if err != nil {
		return nil, false, d.fail(0, fmt.Errorf("cannot be rewritten without changing what else it says; write it without anchors and aliases: %w", err))
	}
	return out, true, nil
}

// editOnce edits each place that differs. Without override it trusts that an
// alias follows the edit of its anchor; with it, a value replaces the alias.
func (d *document) editOnce(have, want any, override bool) (*document, error) {
	if !d.located || d.root == nil {
		return nil, errNotInPlace
	}
	e := editor{
		document: d, override: override, lineBreak: lineBreakOf(d.text),
		spaced: bytes.Contains(d.text, []byte(`": `)),
	}
	e.change(d.root, have, want)
	if e.failed || len(e.edits) == 0 || slices.ContainsFunc(e.edits, func(x edit) bool { return x.start > x.end || x.end > len(d.text) }) {
		return nil, errNotInPlace
	}
	next := &document{text: e.apply(), line: d.line, number: d.number, json: d.json}
	return next, next.parse()
}

// editor collects the edits of a document's text.
type editor struct {
	*document
	override  bool
	lineBreak string
	spaced    bool // JSON with spaces behind ',' and ':'
	edits     []edit
	failed    bool
}

// edit puts a text in the place of another; inserts have start == end.
type edit struct {
	start, end int
	text       string
}

func lineBreakOf(text []byte) string {
	end := lineEnd(text, 0)
	if n := breakAt(text[end:]); n > 0 && text[end] < 0x80 {
		return string(text[end : end+n])
	}
	return "\n"
}

func (e *editor) edit(start, end int, text string) {
	e.edits = append(e.edits, edit{start, end, text})
}

// apply makes the edits. Those at one place are made in the order in which they
// were asked for: the entries of an inner list before those of an outer.
func (e *editor) apply() []byte {
	slices.SortStableFunc(e.edits, func(a, b edit) int { return a.start - b.start })
	var out bytes.Buffer
	at := 0
	for _, edit := range e.edits {
		if edit.start < at {
			continue // inside of what was replaced
		}
		out.Write(e.text[at:edit.start])
		out.WriteString(edit.text)
		at = edit.end
	}
	out.Write(e.text[at:])
	return out.Bytes()
}

// change edits a node that means have so that it means want.
func (e *editor) change(n *node, have, want any) {
	if equal(have, want) {
		return
	}
	switch want := want.(type) {
	case object:
		if have, ok := have.(object); ok && n.shape == mapping {
			e.changeMapping(n, have, want)
			return
		}
	case []any:
		if have, ok := have.([]any); ok && n.shape == sequence && len(have) == len(n.values) && len(have) <= len(want) {
			e.changeSequence(n, have, want)
			return
		}
	}
	if n.shape == alias && !e.override {
		return
	}
	e.replace(n, want)
}

func (e *editor) changeMapping(n *node, have, want object) {
	written := map[string]bool{}
	for i, k := range n.keys {
		name := k.name()
		written[name] = true
		if _, ok := have[name]; !ok {
			continue // a merge key
		}
		if _, ok := want[name]; !ok {
			e.failed = true // nothing in Berth removes a field
			return
		}
		e.change(n.values[i], have[name], want[name])
	}
	for _, name := range keysOf(want) {
		inherited, ok := have[name]
		if written[name] || ok && (equal(inherited, want[name]) || !e.override) {
			continue
		}
		e.appendEntry(n, name, want[name])
	}
}

func (e *editor) changeSequence(n *node, have, want []any) {
	for i := range have {
		e.change(n.values[i], have[i], want[i])
	}
	for _, item := range want[len(have):] {
		e.appendItem(n, item)
	}
}

// replace puts a value in the place of a node, in the quotes of the old one.
func (e *editor) replace(n *node, want any) {
	text := e.inline(want)
	if s, ok := want.(string); ok && !e.json && n.shape == scalar {
		text = quoteAs(s, n.quote)
	}
	if n.start == n.end && n.start > 0 && !isBlank(e.text[n.start-1:]) {
		text = " " + text // behind 'key:' without a value
	}
	e.edit(n.start, n.end, text)
}

// inline is a value in one line.
func (e *editor) inline(value any) string {
	if e.json {
		return encodeJSON(value, e.spaced)
	}
	return encodeFlow(value)
}

func (e *editor) appendEntry(n *node, name string, value any) {
	switch {
	case !n.flow:
		e.insertLines(n, blockEntry(name, value, e.listIndent(n)))
	case e.json:
		e.insertFlow(n, encodeString(name)+e.colon(n)+e.laidOut(n, value))
	default:
		e.insertFlow(n, quoteLike(n.keys, name)+": "+encodeFlow(value))
	}
}

func (e *editor) appendItem(n *node, value any) {
	switch {
	case !n.flow:
		e.insertLines(n, blockItem(value))
	case e.json:
		e.insertFlow(n, e.laidOut(n, value))
	default:
		e.insertFlow(n, encodeFlow(value))
	}
}

// insertLines puts lines behind the last line of a block mapping or sequence.
func (e *editor) insertLines(n *node, block []string) {
	at := lineEnd(e.text, n.end)
	indent := strings.Repeat(" ", n.indent)
	for _, line := range block {
		e.edit(at, at, e.lineBreak+indent+line)
	}
}

// listIndent is how far the lists of a block mapping are indented: as the first of them.
func (e *editor) listIndent(n *node) int {
	for _, v := range n.values {
		if v.shape == sequence && !v.flow {
			return max(v.indent-n.indent, 0)
		}
	}
	return 0
}

// insertFlow puts an entry behind the last one in a pair of brackets: on a line
// of its own, where that one has a line of its own.
func (e *editor) insertFlow(n *node, entry string) {
	last := n.last()
	if last == nil {
		e.edit(n.start+1, n.start+1, entry)
		return
	}
	separator := ", "
	if e.json && e.compact(n) {
		separator = ","
	}
	if indent, ok := e.ownLine(n); ok {
		separator = "," + e.lineBreak + indent
	}
	e.edit(last.end, last.end, separator+entry)
}

// lastStart is where the last entry of a collection starts.
func (n *node) lastStart() int {
	if n.shape == mapping {
		return n.keys[len(n.keys)-1].start
	}
	return n.last().start
}

// ownLine returns the indentation of the last entry, if it starts a line.
func (e *editor) ownLine(n *node) (indent string, ok bool) {
	if len(n.values) == 0 {
		return "", false
	}
	start := n.lastStart()
	line := start
	for line > n.start && (e.text[line-1] == ' ' || e.text[line-1] == '\t') {
		line--
	}
	return string(e.text[line:start]), line > n.start && endsInBreak(e.text[:line])
}

// lineStart is the offset of the start of an offset's line.
func lineStart(text []byte, offset int) int {
	for offset > 0 && !endsInBreak(text[:offset]) {
		offset--
	}
	return offset
}

// compact reports whether JSON is written without spaces behind ',' and ':'.
func (e *editor) compact(n *node) bool {
	if n.shape == mapping && len(n.keys) > 0 {
		return n.values[0].start == n.keys[0].end+1
	}
	return !e.spaced
}

func (e *editor) colon(n *node) string {
	if e.compact(n) {
		return ":"
	}
	return ": "
}

// laidOut is JSON in lines of its own where the collection that it goes to is.
func (e *editor) laidOut(n *node, value any) string {
	indent, ok := e.ownLine(n)
	if !ok {
		return e.inline(value)
	}
	outer := e.text[lineStart(e.text, n.start):n.start]
	outer = outer[:len(outer)-len(bytes.TrimLeft(outer, " \t"))]
	unit := strings.TrimPrefix(indent, string(outer))
	return strings.ReplaceAll(encodeLaidOut(value, indent, unit), "\n", e.lineBreak)
}
