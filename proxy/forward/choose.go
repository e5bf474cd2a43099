package forward

import (
	"cmp"
	"slices"

	"berth.dev/berth/access"
	"berth.dev/berth/route"
)

// candidate is a Connector that counts for a client, with its place among them:
// 0 for those of its own namespace and 1 for trusted ones, or its place among
// those that the client names.
type candidate struct {
	*access.Connector
	rank int
}

// usable returns the Connectors whose credential is for the visit's target and
// that grant the caller anything. None: Berth is as if it knew no credential.
func (v *visit) usable(caller access.Caller) []candidate {
	list := v.Catalogue.ByOrigin(v.origin)
	if len(list) == 0 {
		return nil
	}
	var found []candidate
	add := func(rank int, connectors []*access.Connector) {
		for _, c := range connectors {
			if c.Visible(caller) {
				found = append(found, candidate{c, rank})
			}
		}
	}
	if names, ok := v.named(); ok {
		for rank, name := range names {
			add(rank, called(list, name))
		}
		return found
	}
	add(0, of(list, v.caller.Namespace))
	for _, namespace := range v.Trusted() {
		if namespace != v.caller.Namespace {
			add(1, of(list, namespace))
		}
	}
	return found
}

// of returns a namespace's part of a list that is sorted by namespace.
func of(list []*access.Connector, namespace string) []*access.Connector {
	byNamespace := func(c *access.Connector, namespace string) int { return cmp.Compare(c.Namespace, namespace) }
	start, _ := slices.BinarySearchFunc(list, namespace, byNamespace)
	n, _ := slices.BinarySearchFunc(list[start:], namespace+"\x00", byNamespace) // the next name that can be
	return list[start : start+n]
}

// called returns those of a name: one, or more where the Connector has the host more than once.
func called(list []*access.Connector, name route.Connector) []*access.Connector {
	own := of(list, name.Namespace)
	byName := func(c *access.Connector, name string) int { return cmp.Compare(c.Name, name) }
	start, _ := slices.BinarySearchFunc(own, name.Name, byName)
	n, _ := slices.BinarySearchFunc(own[start:], name.Name+"\x00", byName)
	return own[start : start+n]
}

// granted is a candidate that grants what a request is about.
type granted struct {
	candidate
	specific int // length of the pattern that grants
}

// before reports whether a is chosen rather than b, as for images: by rank, then
// by what grants more specifically, then by address path, then by name.
func (a granted) before(b granted) bool {
	return cmp.Or(
		cmp.Compare(a.rank, b.rank),
		cmp.Compare(b.specific, a.specific),
		cmp.Compare(len(b.Address.Path), len(a.Address.Path)),
		cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name),
	) < 0
}
