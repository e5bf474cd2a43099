package configuration

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
)

const (
	// maxSource is the longest template, as the CRD has it.
	maxSource = 64 << 10
	// maxFile is the longest file that a template may make.
	maxFile = 1 << 20
	// maxWork is how much of a template's source may be run through, in bytes, and counting each round of a loop;
	// beginning a round costs as much as roundWork. It takes some tenths of a second.
	maxWork   = 4 << 20
	roundWork = 64

	// stepFunction is called where a body begins that may run again. A template that calls it itself gains nothing.
	stepFunction = "berthStep"
)

// The bounds that a template may not cross.
var (
	errTooMuchWork = errors.New("it goes on and on; range over `.Connectors` alone")
	errTooLong     = errors.New("it makes more than a file may have; see to it that it ends")
	errInnerName   = errors.New("`define`, `template` and `block` may not be used; write the text where it belongs")
)

// file is a template of one file, compiled.
type file struct {
	name     string
	template *template.Template
	source   string
}

// problem is a template that is no good, or does not go through with these values.
type problem struct {
	file string
	line string // empty: not known
	text string
}

// Error implements error.
func (p *problem) Error() string {
	if p.line == "" {
		return fmt.Sprintf("file '%s': %s", p.file, p.text)
	}
	return fmt.Sprintf("file '%s', line %s: %s", p.file, p.line, p.text)
}

// compile prepares a template. The error is a *problem.
func compile(name, source string) (*file, error) {
	if len(source) > maxSource {
		return nil, &problem{file: name, text: fmt.Sprintf("it may have at most %d bytes", maxSource)}
	}
	t, err := template.New(name).Option("missingkey=error").Funcs(functions()).Funcs(template.FuncMap{stepFunction: unmetered}).Parse(source)
	if err != nil {
		return nil, located(name, err)
	}
	f := &file{name: name, template: t, source: source}
	if t.Tree == nil || t.Root == nil || len(t.Templates()) > 1 {
		if len(t.Templates()) > 1 {
			return nil, &problem{file: name, text: errInnerName.Error()}
		}
		return f, nil // an empty file
	}
	if err := f.meter(t.Root); err != nil {
		return nil, err
	}
	return f, nil
}

func unmetered(int, int) (string, error) { return "", nil }

// meter puts, before each body of the tree, a call that counts what is run.
func (f *file) meter(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	work := roundWork
	for _, node := range list.Nodes {
		if _, inner := node.(*parse.TemplateNode); inner {
			return &problem{file: f.name, line: f.line(node), text: errInnerName.Error()}
		}
		branch, bodies := branchOf(node)
		for _, body := range bodies {
			if err := f.meter(body); err != nil {
				return err
			}
		}
		if branch != nil {
			work += len(branch.Pipe.String())
		} else {
			work += len(node.String())
		}
	}
	line, _ := strconv.Atoi(f.line(list))
	step, err := parse.Parse(f.name, fmt.Sprintf("{{%s %d %d}}", stepFunction, work, line), "", "", map[string]any{stepFunction: unmetered})
	if err != nil {
		return &problem{file: f.name, text: err.Error()}
	}
	list.Nodes = append([]parse.Node{step[f.name].Root.Nodes[0]}, list.Nodes...)
	return nil
}

// branchOf returns the parts of a node that has bodies.
func branchOf(node parse.Node) (branch *parse.BranchNode, bodies []*parse.ListNode) {
	switch n := node.(type) {
	case *parse.IfNode:
		branch = &n.BranchNode
	case *parse.RangeNode:
		branch = &n.BranchNode
	case *parse.WithNode:
		branch = &n.BranchNode
	default:
		return nil, nil
	}
	return branch, []*parse.ListNode{branch.List, branch.ElseList}
}

func (f *file) line(node parse.Node) string {
	return strconv.Itoa(1 + strings.Count(f.source[:min(int(node.Position()), len(f.source))], "\n"))
}

// render runs the template. Errors are *problem, and hold nothing of the values' token.
func (f *file) render(values *Values) ([]byte, error) {
	run, err := f.template.Clone()
	if err != nil {
		return nil, &problem{file: f.name, text: err.Error()}
	}
	work := meter{left: maxWork}
	var out limited
	if f.template.Root != nil {
		err = run.Funcs(template.FuncMap{stepFunction: work.step}).Execute(&out, values)
	}
	switch {
	case errors.Is(err, errTooMuchWork):
		return nil, &problem{file: f.name, line: strconv.Itoa(work.line), text: errTooMuchWork.Error()}
	case err != nil:
		p := located(f.name, err)
		p.text = values.withoutToken(p.text)
		return nil, p
	default:
		return out.Bytes(), nil
	}
}

// meter counts what is run of a template.
type meter struct {
	left, line int
}

func (m *meter) step(work, line int) (string, error) {
	m.left -= work
	m.line = line
	if m.left < 0 || work < 0 {
		return "", errTooMuchWork
	}
	return "", nil
}

// limited is a buffer that takes no more than a file may have.
type limited struct {
	bytes.Buffer
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxFile {
		return 0, errTooLong
	}
	return l.Buffer.Write(p)
}

// location is how text/template begins its errors.
var location = regexp.MustCompile(`^template: [^:]*:([0-9]+)(?::[0-9]+)?: (?:executing "[^"]*" )?`)

// located says an error of text/template as a problem.
func located(name string, err error) *problem {
	text := err.Error()
	found := location.FindStringSubmatch(text)
	if found == nil {
		return &problem{file: name, text: strings.TrimPrefix(text, "template: "+name+": ")}
	}
	return &problem{file: name, line: found[1], text: text[len(found[0]):]}
}
