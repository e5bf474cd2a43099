package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// object is a decoded JSON object.
type object = map[string]any

// decode returns what the document means to Kubernetes.
func (d *document) decode() (any, error) {
	value, err := meaning(d.text, d.json)
	if err != nil {
		return nil, d.fail(0, err)
	}
	return value, nil
}

// meaning decodes a text as kubectl does: YAML becomes JSON first.
func meaning(text []byte, isJSON bool) (value any, err error) {
	if !isJSON {
		if text, err = yaml.YAMLToJSON(text); err != nil {
			return nil, fmt.Errorf("not YAML that Kubernetes understands: %w", err)
		}
	}
	if err := kjson.Unmarshal(text, &value); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	return value, nil
}

// convert decodes an object into a type of Kubernetes. Fields that the type does not know are left out.
func convert(value, into any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if err := kjson.Unmarshal(text, into); err != nil {
		return typeMismatch(text, into, err)
	}
	return nil
}

// mismatch is a field whose value has another type than it must have.
type mismatch struct {
	field, value string
}

// Error names the field, not its value.
func (m *mismatch) Error() string {
	return fmt.Sprintf("`%s` may not be of type '%s'", m.field, m.value)
}

// typeMismatch finds the field that an object could not be decoded for. The
// decoder of Kubernetes keeps it to itself; that of the standard library tells.
func typeMismatch(text []byte, into any, err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](json.Unmarshal(text, into)); ok {
		return &mismatch{field: wrong.Field, value: wrong.Value}
	}
	return fmt.Errorf("the types do not fit: %w", err)
}

// untyped is what a typed value looks like in JSON.
func untyped(typed any) (value any, err error) {
	text, err := json.Marshal(typed)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return value, kjson.Unmarshal(text, &value)
}

// carry returns the value with what differs between before and after carried
// over to it. What the two have in common stays as it is, as do fields that
// neither of them has.
func carry(value, before, after any) any {
	if equal(before, after) {
		return value
	}
	switch after := after.(type) {
	case object:
		if before, ok := asObject(before); ok {
			if value, ok := asObject(value); ok {
				return carryObject(value, before, after)
			}
		}
	case []any:
		before, _ := before.([]any)
		value, _ := value.([]any)
		if len(value) == len(before) && len(before) <= len(after) {
			return carryList(value, before, after)
		}
	}
	return after
}

// asObject takes null for an empty object, as Kubernetes does.
func asObject(value any) (object, bool) {
	if value == nil {
		return object{}, true
	}
	o, ok := value.(object)
	return o, ok
}

func carryObject(value, before, after object) object {
	for k, v := range after {
		if !equal(before[k], v) {
			value[k] = carry(value[k], before[k], v)
		}
	}
	for k := range before {
		if _, ok := after[k]; !ok {
			delete(value, k)
		}
	}
	return value
}

func carryList(value, before, after []any) []any {
	carried := slices.Clone(after)
	for i := range before {
		carried[i] = carry(value[i], before[i], after[i])
	}
	return carried
}

func equal(a, b any) bool { return reflect.DeepEqual(a, b) }
