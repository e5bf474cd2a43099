package configuration

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func someValues() *Values {
	return &Values{
		Namespace: "demo", Token: "very-secret-token", CACert: "-----BEGIN\nx\n-----END\n", CAFile: "/run/ca.crt",
		Connectors: []ConnectorValues{{Name: "harbor", Namespace: "demo", Host: "c-harbor.demo.svc.cluster.local"}},
	}
}

// TestTemplates: what templates can do, and where they are stopped, and what is said then.
func TestTemplates(t *testing.T) {
	t.Parallel()
	const again = "{{$a = print $a $a}}"
	for name, tc := range map[string]struct {
		source string
		want   string
		says   string // empty: it goes through
	}{
		"values":             {source: `{{range .Connectors}}{{.Host}}{{end}} {{.CAFile}}`, want: "c-harbor.demo.svc.cluster.local /run/ca.crt"},
		"sprig":              {source: `{{"a" | upper | b64enc}} {{"x" | default "y"}} {{ternary "a" "b" true}} {{"a/b" | base}}`, want: "QQ== x a b"},
		"quote":              {source: `{{quote "a\"b"}} {{toJson "<"}} {{toRawJson "<"}}`, want: `"a\"b" "\u003c" "<"`},
		"indent":             {source: `{{nindent 2 "a\nb"}}|{{indent 1 "c"}}`, want: "\n  a\n  b| c"},
		"replace":            {source: `{{replace "." "-" "a.b"}}`, want: "a-b"},
		"printf":             {source: `{{printf "%s:%d:%q%%" "a" 1 "b"}}`, want: `a:1:"b"%`},
		"comparison":         {source: `{{if and (eq 1 1) (not (contains "x" "abc"))}}yes{{end}}`, want: "yes"},
		"else":               {source: `{{with .ProxyURL}}{{.}}{{else}}none{{end}}{{range $i, $c := .Connectors}}{{break}}{{else}}x{{end}}`, want: "none"},
		"comment":            {source: `a{{/* b */}}c`, want: "ac"},
		"empty":              {source: ``, want: ""},
		"unknown field":      {source: "\n{{.Host}}", says: "file 'f', line 2: at <.Host>: can't evaluate field Host"},
		"unknown function":   {source: `{{nope}}`, says: `line 1: function "nope" not defined`},
		"unclosed":           {source: "a\n{{range .Connectors}}", says: "line 2: unexpected EOF"},
		"environment":        {source: `{{env "HOME"}}`, says: `function "env" not defined`},
		"environment again":  {source: `{{expandenv "$HOME"}}`, says: `function "expandenv" not defined`},
		"network":            {source: `{{getHostByName "localhost"}}`, says: `function "getHostByName" not defined`},
		"clock":              {source: `{{now}}`, says: `function "now" not defined`},
		"chance":             {source: `{{randAlphaNum 5}}`, says: `function "randAlphaNum" not defined`},
		"keys":               {source: `{{genCA "a" 1}}`, says: `function "genCA" not defined`},
		"repeat":             {source: `{{repeat 1000000000 "a"}}`, says: `function "repeat" not defined`},
		"until":              {source: `{{until 1000000000}}`, says: `function "until" not defined`},
		"seq":                {source: `{{seq 1000000000}}`, says: `function "seq" not defined`},
		"lists":              {source: `{{list 1}}`, says: `function "list" not defined`},
		"fail":               {source: `{{fail .Token}}`, says: `function "fail" not defined`},
		"empty loop":         {source: "\n\n{{range 2000000000}}{{end}}", says: "line 3: it goes on and on"},
		"loop that goes on":  {source: "{{range 2000000000}}{{continue}}{{end}}", says: "it goes on and on"},
		"loops in loops":     {source: strings.Repeat("{{range 1000}}", 9) + strings.Repeat("{{end}}", 9), says: "it goes on and on"},
		"loop in else":       {source: "{{if false}}{{else}}{{range 2000000000}}{{end}}{{end}}", says: "it goes on and on"},
		"output":             {source: "{{range 2000000000}}{{$.CACert}}{{end}}", says: "it makes more than a file may have"},
		"own budget":         {source: "{{range 2000000000}}{{berthStep -1000000 1}}{{end}}", says: "it goes on and on"},
		"doubling":           {source: `{{$a := "x"}}` + strings.Repeat(again, 60), says: "a text of more than 65536 bytes"},
		"doubling by js":     {source: `{{$a := "\\"}}` + strings.Repeat(`{{$a = js $a}}`, 60), says: "a text of more than 65536 bytes"},
		"doubling by quote":  {source: `{{$a := "\\"}}` + strings.Repeat(`{{$a = quote $a}}`, 60), says: "a text of more than 65536 bytes"},
		"quotes":             {source: "{{quote `" + strings.Repeat(`\`, 40_000) + "`}}", says: "a text of more than 65536 bytes"},
		"width":              {source: `{{printf "%1000000d" 1}}`, says: "without widths"},
		"width as a value":   {source: `{{printf "%*d" 1000000 1}}`, says: "without widths"},
		"precision":          {source: `{{printf "%.1000000s" "a"}}`, says: "without widths"},
		"great indent":       {source: `{{indent 1000000000 "a"}}`, says: "0 to 64 spaces"},
		"negative indent":    {source: `{{indent -1 "a"}}`, says: "0 to 64 spaces"},
		"great replacement":  {source: `{{$a := "xxxxxxxx"}}` + strings.Repeat(again, 11) + `{{replace "x" $a $a}}`, says: "a text of more than 65536 bytes"},
		"calls itself":       {source: `{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`, says: "may not be used"},
		"calls the file":     {source: `x{{template "f"}}`, says: "line 1: `define`, `template` and `block` may not be used"},
		"block":              {source: `{{block "a" .}}{{end}}`, says: "may not be used"},
		"token in the error": {source: `{{index .Connectors .Token}}`, says: "cannot index slice/array with type string"},
		"token as format":    {source: `{{printf (print "%z" .Token)}}`, says: "without widths"},
		"call":               {source: `{{call .Token}}`, says: "non-function .Token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := render(tc.source)
			if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) || string(got) != tc.want {
				t.Fatalf("'%s', %v; want '%s', and an error that says '%s'", got, err, tc.want, tc.says)
			}
			if p := (*problem)(nil); err != nil && (!errors.As(err, &p) || strings.Contains(err.Error(), "very-secret-token")) {
				t.Errorf("not a problem, or with the token: %v", err)
			}
		})
	}
}

func render(source string) ([]byte, error) {
	f, err := compile("f", source)
	if err != nil {
		return nil, err
	}
	return f.render(someValues())
}

// TestWithoutToken: should the token get into an error, it gets no further.
func TestWithoutToken(t *testing.T) {
	t.Parallel()
	if got := someValues().withoutToken("at <very-secret-token>: very-secret-token"); got != "at <[token]>: [token]" {
		t.Errorf("it says: %s", got)
	}
	if got := (&Values{}).withoutToken("as it is"); got != "as it is" {
		t.Errorf("it says: %s", got)
	}
}

// TestTooLong: a template that the CRD would not have admitted.
func TestTooLong(t *testing.T) {
	t.Parallel()
	if _, err := compile("f", strings.Repeat("x", maxSource+1)); err == nil {
		t.Error("it is compiled")
	}
}

// FuzzTemplate: whatever a template is, it ends, twice with the same, within its bounds, and never with the token in an error.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{
		"{{range .Connectors}}{{.Host | quote}}{{end}}", "{{range 9}}{{print $.Token}}{{end}}", "{{define `a`}}{{end}}{{template `a`}}",
		"{{$a := 1}}{{with $a}}{{else}}{{end}}", "{{if}}", "{{printf `%s` .}}", "{{nindent 3 .CACert}}", "{{berthStep 1 2}}", "{{slice .Token 1 2}}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, source string) {
		first, err := render(source)
		second, again := render(source)
		if !bytes.Equal(first, second) || (err == nil) != (again == nil) || len(first) > maxFile {
			t.Errorf("%d bytes, %v; then %d bytes, %v", len(first), err, len(second), again)
		}
		if err != nil && strings.Contains(err.Error(), "very-secret-token") {
			t.Errorf("the token: %v", err)
		}
	})
}
