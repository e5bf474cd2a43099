package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"sigs.k8s.io/yaml"
)

// keysOf returns an object's keys as people order them: 'name' first.
func keysOf(o object) []string {
	return slices.SortedFunc(maps.Keys(o), func(a, b string) int {
		if (a == "name") != (b == "name") {
			return map[bool]int{true: -1, false: 1}[a == "name"]
		}
		return cmp.Compare(a, b)
	})
}

// blockEntry is an entry of a block mapping, in lines.
func blockEntry(name string, value any, listIndent int) []string {
	key := quote(name) + ":"
	switch value := value.(type) {
	case object:
		if len(value) > 0 {
			return append([]string{key}, indented(blockObject(value), 2)...)
		}
	case []any:
		if len(value) > 0 {
			return append([]string{key}, indented(blockList(value), listIndent)...)
		}
	}
	return []string{key + " " + encodeFlow(value)}
}

func blockObject(o object) []string {
	var block []string
	for _, k := range keysOf(o) {
		block = append(block, blockEntry(k, o[k], 0)...)
	}
	return block
}

func blockList(list []any) []string {
	var block []string
	for _, item := range list {
		block = append(block, blockItem(item)...)
	}
	return block
}

// blockItem is an item of a block sequence, in lines.
func blockItem(value any) []string {
	o, ok := value.(object)
	if !ok || len(o) == 0 {
		return []string{"- " + encodeFlow(value)}
	}
	block := indented(blockObject(o), 2)
	block[0] = "- " + block[0][2:]
	return block
}

func indented(block []string, by int) []string {
	for i := range block {
		block[i] = strings.Repeat(" ", by) + block[i]
	}
	return block
}

// encodeFlow is a value as YAML in one line.
func encodeFlow(value any) string {
	var parts []string
	switch value := value.(type) {
	case string:
		return quote(value)
	case object:
		for _, k := range keysOf(value) {
			parts = append(parts, quote(k)+": "+encodeFlow(value[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		for _, item := range value {
			parts = append(parts, encodeFlow(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case nil:
		return "null"
	default:
		return fmt.Sprint(value) // a number or a bool
	}
}

// quote writes a string as YAML, without quotes where it needs none.
func quote(s string) string {
	if isPlain(s) {
		return s
	}
	return quoteAs(s, '\'')
}

// quoteAs writes a string in the given quotes, if they can hold it.
func quoteAs(s string, q byte) string {
	switch {
	case q == 0 && isPlain(s):
		return s
	case q != '"' && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) }) < 0:
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	default:
		return encodeString(s)
	}
}

// isPlain reports whether a string means itself without quotes, in block and flow style.
func isPlain(s string) bool {
	if !regexp.MustCompile(`^[A-Za-z0-9_/.]([A-Za-z0-9_/.:@+-]*[A-Za-z0-9_/.@+-])?$`).MatchString(s) {
		return false
	}
	var value any
	return yaml.Unmarshal([]byte(s), &value) == nil && value == any(s)
}

// quoteLike writes a key as its neighbours are written.
func quoteLike(neighbours []*node, name string) string {
	if len(neighbours) > 0 {
		return quoteAs(name, neighbours[0].quote)
	}
	return quote(name)
}

// encodeString writes a string as JSON, which in double quotes is YAML too.
func encodeString(s string) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) //nolint:errchkjson // strings always encode
	return strings.TrimSuffix(b.String(), "\n")
}

// encodeJSON is a value as JSON in one line.
func encodeJSON(value any, spaced bool) string {
	colon, comma := ":", ","
	if spaced {
		colon, comma = ": ", ", "
	}
	var parts []string
	switch value := value.(type) {
	case object:
		for _, k := range keysOf(value) {
			parts = append(parts, encodeString(k)+colon+encodeJSON(value[k], spaced))
		}
		return "{" + strings.Join(parts, comma) + "}"
	case []any:
		for _, item := range value {
			parts = append(parts, encodeJSON(item, spaced))
		}
		return "[" + strings.Join(parts, comma) + "]"
	case string:
		return encodeString(value)
	default:
		return encodeFlow(value)
	}
}

// encodeLaidOut is a value as JSON in lines; all but the first start with the prefix.
func encodeLaidOut(value any, prefix, unit string) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(encodeJSON(value, false)), prefix, unit) != nil {
		return encodeJSON(value, true) // our own JSON is well-formed
	}
	return b.String()
}
