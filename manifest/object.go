package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
)

// Object is a document of a stream, for who reads it and does not rewrite it.
type Object struct {
	metav1.TypeMeta

	name     string
	document *document
	text     []byte // as JSON
}

// Objects returns the documents of the stream that are not empty, whatever
// their kind. The error is an *InputError, and holds no value of any field.
func (s *Stream) Objects() ([]Object, error) {
	var objects []Object
	for _, p := range s.parts {
		if p.document == nil {
			continue
		}
		o, err := p.document.object(s.name)
		if err != nil {
			return nil, s.locate(err)
		}
		if o.document != nil {
			objects = append(objects, o)
		}
	}
	return objects, nil
}

// object is the document, decoded; the zero Object where it is empty.
func (d *document) object(name string) (Object, error) {
	whole := *d // d may have forgotten its tree
	if err := whole.parse(); err != nil {
		return Object{}, err
	}
	if whole.root == nil {
		return Object{}, nil
	}
	content, err := whole.understood()
	if err != nil {
		return Object{}, err
	}
	o := Object{name: name, document: &whole}
	if o.text, err = json.Marshal(content); err != nil {
		return Object{}, whole.fail(0, errors.New("cannot be written as JSON"))
	}
	if err := json.Unmarshal(o.text, &o.TypeMeta); err != nil {
		return Object{}, whole.failAt(whole.root, errors.New("must be an object with `apiVersion` and `kind`"))
	}
	return o, nil
}

// Decode decodes the document into a type of Kubernetes. A field that the type
// does not know is an error. The error is an *InputError, and holds no value of any field.
func (o Object) Decode(into any) error {
	unknown, err := kjson.UnmarshalStrict(o.text, into)
	if err != nil {
		wrong := typeMismatch(o.text, into, err)
		if field, ok := errors.AsType[*mismatch](wrong); ok {
			return o.Fail(field.field, wrong)
		}
		return o.Fail("", errors.New("a value is not of the type that its field has"))
	}
	if len(unknown) > 0 {
		return o.Fail(fieldOf(unknown[0]), unknown[0])
	}
	return nil
}

// fieldOf is the path of the field that a strict error is about.
func fieldOf(err error) string {
	match := regexp.MustCompile(`field "([^"]*)"`).FindStringSubmatch(err.Error())
	if match == nil {
		return ""
	}
	return match[1]
}

// Fail places an error at a field of the object, such as 'spec.access[0].actions'.
func (o Object) Fail(field string, err error) error {
	at := o.document.root.find(field)
	failure := o.document.failAt(at, err)
	if located, ok := errors.AsType[*InputError](failure); ok {
		located.File = o.name
		return located
	}
	return fmt.Errorf("%s: %w", o.name, failure)
}
