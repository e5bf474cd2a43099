package manifest_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/manifest"
)

const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\nspec:\n"

// hostile are texts that have broken parsers and editors.
//
//nolint:gochecknoglobals // a table, which the fuzzer starts from too
var hostile = map[string]string{
	"nothing":             "",
	"a mark alone":        "\ufeff",
	"a mark":              "\ufeff" + pod + "  containers: [{name: a, image: harbor.example.com/a:v1}]\n",
	"markers alone":       "---\n---\n...\n...\n---",
	"lone returns":        strings.ReplaceAll(pod+"  containers:\n  - name: a\n    image: harbor.example.com/a:v1\n", "\n", "\r"),
	"next line":           strings.ReplaceAll(pod, "\n", "\u0085") + "  containers: [{name: a, image: harbor.example.com/a:v1}]",
	"complex key":         pod + "  ? containers\n  : - ? name\n      : a\n      ? image\n      : harbor.example.com/a:v1\n",
	"tagged":              "!!map\n" + pod + "  containers: !!seq\n  - !!map\n    name: !!str a\n    image: !!str harbor.example.com/a:v1\n",
	"tagged and anchored": pod + "  containers: &c !!seq\n  - &x\n    name: a\n    image: &i !!str \"harbor.example.com/a:v1\"\n",
	"bare pair":           pod + "  containers: [image: harbor.example.com/a:v1]\n",
	"tabs":                "apiVersion:\tv1\nkind:\tPod\nmetadata:\t{namespace:\tshop}\nspec:\n  containers:\n  - name:\ta\n    image:\tharbor.example.com/a:v1\t# c\n",
	"folded plain":        pod + "  containers:\n  - name: a\n    args: [one\n      two, 'three\n\n      four']\n    image: harbor.example.com/a:v1\n    workingDir: /a\n     b\n",
	"many bytes":          "# ÄÖÜ€😀\napiVersion: v1\nkind: Pod\nmetadata: {\"ä😀\": 'ö', namespace: shop}\nspec: {containers: [{name: \"😀\", image: harbor.example.com/a:v1}]}\n",
	"null lists":          pod + "  containers: [{name: a, image: harbor.example.com/a:v1}]\n  imagePullSecrets:\n",
	"null with comment":   pod + "  containers: [{name: a, image: harbor.example.com/a:v1}]\n  imagePullSecrets: # none\n  # still none\n",
	"tilde":               pod + "  containers: [{name: a, image: harbor.example.com/a:v1}]\n  imagePullSecrets: ~ # none\n",
	"block at the end":    pod + "  containers:\n  - image: harbor.example.com/a:v1\n    args:\n    - |2+\n        a\n\n\n",
	"keep at the end":     "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: harbor.example.com/a:v1\n    args:\n    - |+\n      a\n\n# c\n\nmetadata:\n  namespace: shop\n",
	"inner anchor":        pod + "  containers:\n  - &a {name: a, image: &i harbor.example.com/a:v1}\n  - *a\n  - {<<: *a, name: b}\n  - {<<: [*a, {x: y}], image: *i}\n",
	"alias of a template": "apiVersion: v1\nkind: List\nitems:\n" +
		"- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {namespace: shop}\n  spec:\n    template: &t\n      spec:\n        containers:\n        - image: harbor.example.com/a:v1\n" +
		"- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {namespace: shop}\n  spec: {template: *t}\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {namespace: closed}\n  spec: {template: *t}\n",
	"yes and octal":   pod + "  containers: [{name: a, image: harbor.example.com/a:v1, stdin: yes}]\n  x: [on, 0777, 1_000, 12:30:45, 2001-01-01]\n",
	"JSON, then YAML": `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"shop"},"spec":{"containers":[{"image":"harbor.example.com/a:v1"}]}}` + "\n---\n" + pod + "  containers: [{image: harbor.example.com/a:v1}]\n",
	"odd JSON": "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"namespace\":\"shop\",\"labels\":{\"a\":\"\\ud800 \u2028 \\/\"}},\n" +
		"\t\"spec\"\t:\t{\"containers\"\n:[\n\n\t{\"image\":\"harbor.example.com/a:v1\"\n}\n]}}",
	"JSON with a comma": `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"shop"},"spec":{"containers":[{"image":"harbor.example.com/a:v1"},],},}`,
}

func TestHostile(t *testing.T) {
	t.Parallel()
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, report := run(t, "fuzz", []byte(text))
			again, _ := run(t, "fuzz", out)
			if !bytes.Equal(out, again) {
				t.Errorf("twice is not once:\n%s\n%s", out, again)
			}
			for _, e := range report {
				if e.Reason == manifest.ReasonReencoded {
					t.Errorf("written anew:\n%s", out)
				}
			}
			if strings.Contains(text, "harbor.example.com") && !bytes.Contains(out, []byte("c-harbor.shop.svc")) {
				t.Errorf("not rewritten:\n%s\n%s", out, spell(report))
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	var bomb strings.Builder
	bomb.WriteString("apiVersion: v1\nkind: Pod\na: &a [x,x,x,x,x,x,x,x,x]\n")
	for c := 'b'; c < 'k'; c++ {
		fmt.Fprintf(&bomb, "%c: &%c [%s]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 9))
	}
	tests := map[string]struct{ text, want string }{
		"one key, twice":       {pod + "  a: 1\n  a: 2\n", "stands twice"},
		"merged with a number": {pod + "  a: &a {1: x}\n  b: {<<: *a, c: d}\n", "'1' is not a string"},
		"two, one in JSON":     {pod + "  n: 1\n  \"false\": 2\n", "'false' stands twice"},
		"large document":       {pod + "  x: " + strings.Repeat("x", manifest.MaxDocument), "at most"},
		"large JSON":           {`{"x":"` + strings.Repeat("x", manifest.MaxDocument) + `"}`, "at most"},
		"large stream":         {strings.Repeat("#", manifest.MaxStream+1), "at most"},
		"deep flow":            {strings.Repeat("[", manifest.MaxDepth+2) + strings.Repeat("]", manifest.MaxDepth+2), "levels deep"},
		"deep JSON":            {strings.Repeat(`{"a":`, manifest.MaxDepth+2) + "1" + strings.Repeat("}", manifest.MaxDepth+2), "levels deep"},
		"deep block":           {strings.Repeat("- ", manifest.MaxDepth+2) + "a", "levels deep"},
		"very deep":            {strings.Repeat("[", 1<<20), "fuzz"},
		"aliases":              {bomb.String(), "excessive aliasing"},
		"alias of itself":      {"apiVersion: v1\nkind: Pod\nspec: &s\n  containers: [*s]\n", "contains itself"},
		"not UTF-8":            {"a: \xff", "UTF-8"},
		"UTF-16":               {"\xff\xfea\x00", "UTF-8"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			stream, err := manifest.Parse("fuzz", []byte(test.text))
			if err == nil {
				_, _, err = stream.Rewrite(surroundings(t), policy())
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with '%s'", err, test.want)
			}
			t.Log(time.Since(start))
		})
	}
}
