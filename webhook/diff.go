package webhook

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
)

// diff returns the JSON patch that makes of one Pod, encoded, the other:
//
//	add      /metadata/annotations/connectors.berth.dev~1original-images
//	replace  /spec/containers/0/image
//	add      /spec/imagePullSecrets/1
//
// It compares the typed values instead of two encoded documents: almost all of
// a Pod stays as it is, and to encode it twice and decode it twice costs
// several times what all else in an admission costs. As in
// jsonpatch.CreatePatch, lists are compared by position.
func diff(before, after *corev1.Pod) []jsonpatch.Operation {
	var p patch
	p.compare("", reflect.ValueOf(before), reflect.ValueOf(after))
	return p
}

// patch grows by the differences that are found.
type patch []jsonpatch.Operation

func (p *patch) add(path string, v reflect.Value) {
	*p = append(*p, jsonpatch.NewOperation("add", path, v.Interface()))
}

// replace replaces a value, unless both are encoded alike.
func (p *patch) replace(path string, a, b reflect.Value) {
	was, errWas := json.Marshal(a.Interface())
	is, errIs := json.Marshal(b.Interface())
	if errWas != nil || errIs != nil || !bytes.Equal(was, is) {
		*p = append(*p, jsonpatch.NewOperation("replace", path, b.Interface()))
	}
}

func (p *patch) remove(path string) {
	*p = append(*p, jsonpatch.NewOperation("remove", path, nil))
}

// compare compares two values of one type, both of which the encoded Pods show
// at the path, and which are not easily seen to be the same.
func (p *patch) compare(path string, a, b reflect.Value) {
	switch {
	case encodesItself(a.Type()) || null(a) || null(b):
		p.replace(path, a, b)
	case a.Kind() == reflect.Pointer:
		p.compare(path, a.Elem(), b.Elem())
	case a.Kind() == reflect.Struct:
		p.fields(path, a, b)
	case a.Type() == reflect.TypeFor[map[string]string]():
		p.entries(path, texts(a), texts(b))
	case a.Kind() == reflect.Slice:
		p.elements(path, a, b)
	default: // a scalar, or a map that Berth never changes
		p.replace(path, a, b)
	}
}

func (p *patch) fields(path string, a, b reflect.Value) {
	for i := range a.NumField() {
		was, is := a.Field(i), b.Field(i)
		if same(was, is) {
			continue
		}
		name, omit := encoded(a.Type().Field(i))
		switch gone := omit(is); {
		case name == "":
			p.fields(path, was, is) // an embedded struct, whose fields the outer one shows as its own
		case omit(was) && gone:
		case omit(was):
			p.add(path+"/"+name, is)
		case gone:
			p.remove(path + "/" + name)
		default:
			p.compare(path+"/"+name, was, is)
		}
	}
}

func (p *patch) entries(path string, a, b map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(b)) {
		was, ok := a[key]
		switch {
		case !ok:
			*p = append(*p, jsonpatch.NewOperation("add", path+"/"+escape(key), b[key]))
		case was != b[key]:
			*p = append(*p, jsonpatch.NewOperation("replace", path+"/"+escape(key), b[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if _, ok := b[key]; !ok {
			p.remove(path + "/" + escape(key))
		}
	}
}

func (p *patch) elements(path string, a, b reflect.Value) {
	both := min(a.Len(), b.Len())
	for i := a.Len() - 1; i >= both; i-- { // from the end, so that none moves
		p.remove(path + "/" + strconv.Itoa(i))
	}
	for i := range both {
		if !same(a.Index(i), b.Index(i)) {
			p.compare(path+"/"+strconv.Itoa(i), a.Index(i), b.Index(i))
		}
	}
	for i := both; i < b.Len(); i++ {
		p.add(path+"/"+strconv.Itoa(i), b.Index(i))
	}
}

// same reports whether two values are easily seen to be the same. What it does
// not see, compare finds out.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Pointer:
		return a.Pointer() == b.Pointer() || !a.IsNil() && !b.IsNil() && same(a.Elem(), b.Elem())
	case reflect.Map:
		return a.Pointer() == b.Pointer()
	case reflect.Struct:
		return sameFields(a, b)
	case reflect.Slice:
		return a.Len() == b.Len() && a.IsNil() == b.IsNil() && (a.Pointer() == b.Pointer() || sameElements(a, b))
	case reflect.Interface, reflect.Func, reflect.Chan, reflect.Array:
		return false
	default:
		return a.Equal(b)
	}
}

func sameFields(a, b reflect.Value) bool {
	for i := range a.NumField() {
		if !same(a.Field(i), b.Field(i)) {
			return false
		}
	}
	return true
}

func sameElements(a, b reflect.Value) bool {
	for i := range a.Len() {
		if !same(a.Index(i), b.Index(i)) {
			return false
		}
	}
	return true
}

// null reports whether a value is encoded as null.
func null(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		return v.IsNil()
	default:
		return false
	}
}

// encodesItself reports whether a type has an encoding that is not that of its fields or elements.
func encodesItself(t reflect.Type) bool {
	marshaler := reflect.TypeFor[json.Marshaler]()
	return t.Kind() != reflect.Pointer && (t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler)) ||
		t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// encoded returns the name of a field, empty for an embedded struct without
// one, and when the field is left out.
func encoded(f reflect.StructField) (name string, omit func(reflect.Value) bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if !f.Anonymous {
		name = cmp.Or(name, f.Name)
	}
	switch {
	case strings.Contains(options, "omitzero"):
		return name, func(v reflect.Value) bool { return v.IsZero() || empty(v) && strings.Contains(options, "omitempty") }
	case strings.Contains(options, "omitempty"):
		return name, empty
	default:
		return name, func(reflect.Value) bool { return false }
	}
}

// empty reports whether package json takes a value for empty; it never takes a struct for that.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}

func texts(v reflect.Value) map[string]string {
	m, _ := reflect.TypeAssert[map[string]string](v)
	return m
}

// escape writes a key as RFC 6901 has it in a path.
func escape(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}
