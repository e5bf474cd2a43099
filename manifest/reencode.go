package manifest

import (
	"bytes"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// reencoded writes the document anew: its comments are kept, its layout is not.
func (d *document) reencoded(have, want any) (*document, error) {
	if d.json {
		return nil, errNotInPlace
	}
	y, err := d.decodeNode()
	if err != nil {
		return nil, err
	}
	if err := assign(y.Content[0], have, want); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if bytes.HasPrefix(d.text, []byte("---")) {
		out.WriteString("---\n")
	}
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(y), encoder.Close()); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	anew := &document{
		text: bytes.ReplaceAll(out.Bytes(), []byte("\n"), []byte(lineBreakOf(d.text))),
		line: d.line, number: d.number,
	}
	if err := anew.parse(); err != nil {
		return nil, err
	}
	got, err := anew.understood()
	if err != nil {
		return nil, err
	}
	if !equal(got, want) {
		return nil, errNotInPlace
	}
	return anew, nil
}

// assign changes a node that means have so that it means want.
func assign(y *yaml.Node, have, want any) error {
	if equal(have, want) {
		return nil
	}
	switch want := want.(type) {
	case object:
		if have, ok := have.(object); ok && y.Kind == yaml.MappingNode {
			return assignMapping(y, have, want)
		}
	case []any:
		if have, ok := have.([]any); ok && y.Kind == yaml.SequenceNode && len(have) == len(y.Content) && len(have) <= len(want) {
			return assignSequence(y, have, want)
		}
	}
	return substitute(y, want)
}

func assignMapping(y *yaml.Node, have, want object) error {
	written := map[string]bool{}
	for i := 0; i+1 < len(y.Content); i += 2 {
		name := y.Content[i].Value
		written[name] = true
		before, ok := have[name]
		if !ok {
			continue // a merge key
		}
		if err := assign(y.Content[i+1], before, want[name]); err != nil {
			return err
		}
	}
	for _, name := range keysOf(want) {
		if inherited, ok := have[name]; written[name] || ok && equal(inherited, want[name]) {
			continue
		}
		var key, value yaml.Node
		if err := errors.Join(key.Encode(name), value.Encode(want[name])); err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		y.Content = append(y.Content, &key, &value)
	}
	return nil
}

func assignSequence(y *yaml.Node, have, want []any) error {
	for i := range have {
		if err := assign(y.Content[i], have[i], want[i]); err != nil {
			return err
		}
	}
	for _, item := range want[len(have):] {
		var added yaml.Node
		if err := added.Encode(item); err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		y.Content = append(y.Content, &added)
	}
	return nil
}

// substitute puts a value in the place of a node, whose comments stay.
func substitute(y *yaml.Node, want any) error {
	var value yaml.Node
	if err := value.Encode(want); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	value.HeadComment, value.LineComment, value.FootComment = y.HeadComment, y.LineComment, y.FootComment
	if y.Kind == yaml.ScalarNode {
		value.Anchor = y.Anchor
	}
	*y = value
	return nil
}
