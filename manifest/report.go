package manifest

import (
	"strconv"
	"strings"
	"unicode"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/rewrite"
)

// The reasons of this package, beside those of package rewrite.
const (
	// ReasonNamespaceNotOptedIn: the workload's Namespace does not ask for Berth.
	ReasonNamespaceNotOptedIn rewrite.Reason = "NamespaceNotOptedIn"
	// ReasonNoPodTemplate: a workload without containers, such as a patch of one.
	ReasonNoPodTemplate rewrite.Reason = "NoPodTemplate"
	// ReasonReencoded: the document could not be edited in place.
	ReasonReencoded rewrite.Reason = "Reencoded"
)

// Outcome is what an entry of a report is about.
type Outcome int

// The outcomes.
const (
	// Changed: a field was rewritten.
	Changed Outcome = iota
	// Skipped: something was left alone.
	Skipped
	// Refused: the workload contradicts itself and is left as it was.
	Refused
)

// Report tells what was done to a stream, in its order.
type Report []Entry

// Entry is one line of a report.
type Entry struct {
	Outcome Outcome
	// File is the stream's name; Document and Line count from 1.
	File           string
	Document, Line int
	// Kind, Namespace and Name of the workload; empty where the entry is about the document.
	Kind, Namespace, Name string
	// Field in the document; empty where the entry is about the workload.
	Field string
	// From and To of a change; From of a skip is the image.
	From, To string
	// Reason is for machines, Sentence for people.
	Reason   rewrite.Reason
	Sentence string
	// Warns: a user would want to be told also where he did not ask for a report.
	Warns bool
}

// String is the entry in one line, as 'FILE:LINE: document N: KIND/NAMESPACE/NAME: …'.
func (e *Entry) String() string {
	text := ""
	if e.Kind != "" {
		text = e.Kind + "/" + e.Namespace + "/" + e.Name + ": "
	}
	if e.Field != "" {
		text += "`" + e.Field + "`: "
	}
	switch {
	case e.Outcome == Changed && e.From == "": // something was added
		text += string(e.Reason) + ": " + e.Sentence + ": " + e.To
	case e.Outcome == Changed:
		text += e.From + " → " + e.To
	case e.From != "":
		text += string(e.Reason) + ": '" + e.From + "' " + e.Sentence
	default:
		text += string(e.Reason) + ": " + e.Sentence
	}
	return place(e.File, e.Line, e.Document) + oneLine(text)
}

// oneLine writes control characters as escapes, so that what is written in a
// manifest cannot pass for a line, or a colour, of ours.
func oneLine(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsGraphic(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// Refusals are the entries about refused workloads.
func (r Report) Refusals() Report {
	return r.filter(func(e *Entry) bool { return e.Outcome == Refused })
}

// Warnings are the entries that a user wants to be told of, without refusals.
func (r Report) Warnings() Report {
	return r.filter(func(e *Entry) bool { return e.Outcome == Skipped && e.Warns })
}

func (r Report) filter(keep func(*Entry) bool) Report {
	var kept Report
	for i := range r {
		if keep(&r[i]) {
			kept = append(kept, r[i])
		}
	}
	return kept
}

// entry completes an entry about the document.
func (d *document) entry(e Entry) Entry {
	e.Document, e.Line = d.number, d.line
	if d.root != nil {
		e.Line = d.lineAt(d.root.start)
	}
	return e
}

func reencodedEntry() Entry {
	return Entry{
		Outcome: Skipped, Reason: ReasonReencoded, Warns: true,
		Sentence: "the document could not be edited in place and was written anew: comments are kept, the layout is not",
	}
}

// teller turns what the core tells of a Pod into entries about its workload.
type teller struct {
	document  *document
	workload  *workload
	namespace string
}

// at returns an entry about a field of the Pod, or, for "", about the workload.
func (t teller) at(field string) Entry {
	e := t.document.entry(Entry{Kind: t.workload.Kind, Namespace: t.namespace, Name: t.workload.name})
	n := t.workload.node
	if field != "" {
		e.Field = t.workload.fieldPrefix() + field
		n = t.workload.templateNode().find(field)
	}
	if n != nil {
		e.Line = t.document.lineAt(n.start)
	}
	return e
}

func (t teller) whole(reason rewrite.Reason) Report {
	e := t.at("")
	e.Outcome, e.Reason, e.Sentence = Skipped, reason, "left alone: it has no Pod template with containers"
	if reason == ReasonNamespaceNotOptedIn {
		e.Sentence = "left alone: Namespace '" + t.namespace + "' does not carry the label " + v1alpha1.LabelInject + "=" + v1alpha1.InjectEnabled
	}
	return Report{e}
}

func (t teller) refused(refusal *rewrite.Refusal) Report {
	e := t.at(refusal.Field)
	e.Outcome, e.Reason, e.Sentence = Refused, refusal.Reason, refusal.Detail
	return Report{e}
}

func (t teller) report(told rewrite.Report) Report {
	var report Report
	for _, c := range told.Changes {
		e := t.at(c.Field)
		e.From, e.To, e.Reason, e.Sentence = c.From, c.To, c.Reason, c.Reason.Sentence()
		report = append(report, e)
	}
	for _, s := range told.Skips {
		e := t.at(s.Field)
		e.Outcome, e.From, e.Reason, e.Sentence, e.Warns = Skipped, s.Image, s.Reason, s.Reason.Sentence(), s.Reason.Warns()
		if s.Detail != "" {
			e.Sentence += ": " + s.Detail
		}
		report = append(report, e)
	}
	return report
}

// find returns the node of a field that is spelt as package rewrite does, such
// as 'spec.containers{app}.image' or 'metadata.annotations[a.b/c]', or by number as
// in 'spec.access[0]'; or, where that does not exist, the innermost that does.
func (n *node) find(field string) *node {
	for rest := field; rest != "" && n != nil; {
		var next *node
		switch end := strings.IndexAny(rest[1:], ".[{") + 1; {
		case rest[0] == '.':
			rest = rest[1:]
			continue
		case rest[0] == '[':
			key, after, _ := strings.Cut(rest[1:], "]")
			next, rest = n.entry(key), after
		case rest[0] == '{':
			name, after, _ := strings.Cut(rest[1:], "}")
			next, rest = n.named(name), after
		case end == 0:
			next, rest = n.child(rest), ""
		default:
			next, rest = n.child(rest[:end]), rest[end:]
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

// entry returns the value of a mapping's key, or the item of a sequence by its number.
func (n *node) entry(key string) *node {
	if index, err := strconv.Atoi(key); err == nil && index >= 0 && n.resolved() != nil && n.resolved().shape == sequence {
		return n.item(index)
	}
	return n.child(key)
}

// named returns the item of a sequence whose `name` it is.
func (n *node) named(name string) *node {
	list := n.resolved()
	if list == nil || list.shape != sequence {
		return nil
	}
	for _, item := range list.values {
		if item.text("name") == name {
			return item
		}
	}
	return nil
}
