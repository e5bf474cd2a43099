package configuration

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"text/template"

	"github.com/go-task/slim-sprig/v3"
)

const (
	// maxValue is the longest text that goes into a function or comes out of it.
	maxValue = 64 << 10
	// maxIndent is the deepest that a text may be indented.
	maxIndent = 64
)

var (
	errValue  = fmt.Errorf("a text of more than %d bytes", maxValue)
	errIndent = fmt.Errorf("text may be indented by 0 to %d spaces", maxIndent)
	errPrintf = errors.New("a format may have %s, %q, %v, %d, %x, %t and %%, without widths and flags")
)

// ofSprig are the functions that templates have of sprig: those on text. They read
// nothing outside, return the same for the same, and what they return is about
// as long as what they are given. Those that make lists are not among them:
// a list of lists of itself is short, and endless when it is printed.
var ofSprig = [...]string{ //nolint:gochecknoglobals // a table
	"b64enc", "b64dec", "sha256sum",
	"quote", "squote", "toJson", "toRawJson", "toString",
	"trim", "trimAll", "trimPrefix", "trimSuffix", "trunc", "upper", "lower",
	"contains", "hasPrefix", "hasSuffix",
	"default", "empty", "coalesce", "ternary",
	"base", "dir", "clean",
}

// functions are all that a template can call, but for the comparisons and
// `index`, `slice`, `len`, `not`, `and`, `or` that text/template has by itself.
func functions() template.FuncMap {
	known := sprig.HermeticTxtFuncMap()
	all := template.FuncMap{
		"replace": replace, "printf": printf, "indent": indent, "nindent": nindent,
		"print": fmt.Sprint, "println": fmt.Sprintln,
		"html": template.HTMLEscaper, "js": template.JSEscaper, "urlquery": template.URLQueryEscaper,
	}
	for _, name := range ofSprig {
		all[name] = known[name]
	}
	for name, function := range all {
		all[name] = bounded(function)
	}
	return all
}

// replace is sprig's, for texts that do not grow by it without end.
func replace(old, with, text string) (string, error) {
	if strings.Count(text, old)*len(with) > maxValue {
		return "", errValue
	}
	return strings.ReplaceAll(text, old, with), nil
}

// indent is sprig's, for an indent that a file can have.
func indent(spaces int, text string) (string, error) {
	if spaces < 0 || spaces > maxIndent {
		return "", errIndent
	}
	margin := strings.Repeat(" ", spaces)
	return margin + strings.ReplaceAll(text, "\n", "\n"+margin), nil
}

// nindent is indent on a new line.
func nindent(spaces int, text string) (string, error) {
	indented, err := indent(spaces, text)
	return "\n" + indented, err
}

// plainFormat has no widths, which make text out of nothing.
var plainFormat = regexp.MustCompile(`^([^%]|%[sqvdxt%])*$`)

func printf(format string, values ...any) (string, error) {
	if !plainFormat.MatchString(format) {
		return "", errPrintf
	}
	return fmt.Sprintf(format, values...), nil
}

// bounded returns the function with bounds on what goes in and what comes out,
// and with an error as its second result.
func bounded(function any) any {
	f := reflect.ValueOf(function)
	t := f.Type()
	in := make([]reflect.Type, t.NumIn())
	for i := range in {
		in[i] = t.In(i)
	}
	failure := reflect.TypeFor[error]()
	signature := reflect.FuncOf(in, []reflect.Type{t.Out(0), failure}, t.IsVariadic())
	refused := []reflect.Value{reflect.Zero(t.Out(0)), reflect.ValueOf(&errValue).Elem()}
	call := f.Call
	if t.IsVariadic() {
		call = f.CallSlice
	}
	return reflect.MakeFunc(signature, func(arguments []reflect.Value) []reflect.Value {
		if length(arguments...) > maxValue {
			return refused
		}
		results := call(arguments)
		if length(results[0]) > maxValue {
			return refused
		}
		if len(results) == 1 {
			results = append(results, reflect.Zero(failure))
		}
		return results
	}).Interface()
}

// length is how much text the values are.
func length(values ...reflect.Value) (total int) {
	for _, v := range values {
		switch v.Kind() {
		case reflect.String:
			total += v.Len()
		case reflect.Interface:
			total += length(v.Elem())
		case reflect.Slice:
			for i := range v.Len() {
				total += length(v.Index(i))
			}
		default: // numbers, and the values that every template is given
		}
	}
	return total
}
