package manifest

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"sigs.k8s.io/yaml"
)

// shape of a node.
type shape int

const (
	scalar shape = iota
	mapping
	sequence
	alias
)

// node is a value of a document, and where in the text it stands.
type node struct {
	shape shape
	// start and end of its text, without anchor and tag. Of a block mapping or
	// sequence: from its first entry to the end of its last, without comments.
	start, end int
	// value of a scalar, as the document means it; of an alias: the anchor's name.
	value string
	// quote that a scalar stands in: '\'', '"', '|' for a block scalar, 0 for none.
	quote byte
	// flow: a mapping or sequence in brackets.
	flow bool
	// indent is the column, from 0, of the entries of a block mapping or sequence.
	indent int
	// keys of a mapping; values of a mapping, or items of a sequence.
	keys, values []*node
	// target of an alias.
	target *node
}

// mergeKey stands, in YAML 1.1, for the entries of another mapping.
const mergeKey = "<<"

// resolved is the node that an alias stands for, or the node itself.
func (n *node) resolved() *node {
	if n != nil && n.shape == alias {
		return n.target
	}
	return n
}

// name is what a key means to Kubernetes: YAML 1.1 reads 'n' as false, and JSON
// knows strings alone, so that it becomes 'false'.
func (n *node) name() string {
	n = n.resolved()
	if n.quote != 0 || !mayResolve(n.value) {
		return n.value
	}
	var keys map[string]any
	if err := yaml.Unmarshal([]byte("? "+n.value+"\n: 0"), &keys); err != nil || len(keys) != 1 {
		return n.value
	}
	return keysOf(keys)[0]
}

// isString reports whether a key is a string, or a merge key, already in YAML.
func (n *node) isString() bool {
	if n.quote != 0 || !mayResolve(n.value) || n.value == mergeKey {
		return true
	}
	var value any
	if err := yaml.Unmarshal([]byte(n.value), &value); err != nil {
		return false
	}
	_, ok := value.(string)
	return ok
}

// mayResolve reports whether a text without quotes may be something else than a string.
func mayResolve(text string) bool {
	if text == "" || !unicode.IsLetter(rune(text[0])) {
		return true
	}
	switch strings.ToLower(text) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return true
	default:
		return false
	}
}

// child returns the value of a mapping's key, or nil.
func (n *node) child(key string) *node {
	n = n.resolved()
	if n == nil || n.shape != mapping {
		return nil
	}
	for i, k := range n.keys {
		if k.name() == key {
			return n.values[i]
		}
	}
	return nil
}

// item returns an item of a sequence, or nil.
func (n *node) item(index int) *node {
	n = n.resolved()
	if n == nil || n.shape != sequence || index >= len(n.values) {
		return nil
	}
	return n.values[index]
}

// text is the value of a mapping's key that is a scalar, or "".
func (n *node) text(key string) string {
	value := n.child(key).resolved()
	if value == nil || value.shape != scalar {
		return ""
	}
	return value.value
}

// merges reports whether a mapping takes entries of others.
func (n *node) merges() bool {
	for _, k := range n.keys {
		if k.shape == scalar && k.quote == 0 && k.value == mergeKey {
			return true
		}
	}
	return false
}

// children yields, in the order of the text, the parts of a mapping or sequence.
func (n *node) children(yield func(*node) bool) {
	for i, v := range n.values {
		if n.shape == mapping && !yield(n.keys[i]) {
			return
		}
		if !yield(v) {
			return
		}
	}
}

// last is the part of a collection that ends last, or nil.
func (n *node) last() *node {
	if len(n.values) == 0 {
		return nil
	}
	return n.values[len(n.values)-1]
}

// errDuplicate: Kubernetes refuses such objects, and which one counts is not for us to choose.
var errDuplicate = errors.New("stands twice in one object; remove one")

// errNotString: among merged keys '1' and "1" may meet, and chance would choose between them.
var errNotString = errors.New("is not a string, which cannot stand beside merge keys ('<<'); put it in quotes")

// ambiguous finds a key that may meet another one, which is the same in JSON alone.
func (n *node) ambiguous() (*node, error) {
	if at, err := n.duplicate(); err != nil {
		return at, err
	}
	if !n.any((*node).merges) {
		return nil, nil //nolint:nilnil // nothing to tell
	}
	var at *node
	n.any(func(m *node) bool {
		for _, k := range m.keys {
			if !k.resolved().isString() {
				at = k
			}
		}
		return at != nil
	})
	if at == nil {
		return nil, nil //nolint:nilnil // nothing to tell
	}
	return at, fmt.Errorf("the key '%s' %w", at.resolved().value, errNotString)
}

// any reports whether a node, or one inside of it, is so.
func (n *node) any(is func(*node) bool) bool {
	if is(n) {
		return true
	}
	for c := range n.children {
		if c.any(is) {
			return true
		}
	}
	return false
}

// duplicate finds a key that stands twice in one mapping.
func (n *node) duplicate() (*node, error) {
	seen := map[string]bool{}
	if n.shape == mapping {
		for _, k := range n.keys {
			name := k.name()
			if seen[name] {
				return k, fmt.Errorf("the key '%s' %w", name, errDuplicate)
			}
			seen[name] = true
		}
	}
	for c := range n.children {
		if at, err := c.duplicate(); err != nil {
			return at, err
		}
	}
	return nil, nil //nolint:nilnil // no duplicate, and no error about one
}
