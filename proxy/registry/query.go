package registry

import (
	"net/url"
	"strings"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/proxy/endpoint"
	"berth.dev/berth/route"
)

// parameters are the query parameters that a registry gets for a kind of path:
// those of the specification, and those by which known registries (Quay, Amazon
// ECR) spell the next page, without which a client would get the first for ever.
// In particular `ns`, which containerd adds, is not among them. Uploads that
// have begun are not asked about here: see withoutNS.
func parameters(kind endpoint.Kind) []string {
	switch kind {
	case endpoint.KindTags, KindCatalog:
		return []string{"n", "last", "next_page", "nextToken"}
	case endpoint.KindReferrers:
		return []string{"artifactType", "n", "last", "next_page", "nextToken", "cache", "page"}
	case endpoint.KindUploads:
		return []string{"digest", "digest-algorithm"}
	default:
		return nil
	}
}

// isList reports whether what is of the kind comes in pages.
func isList(kind endpoint.Kind) bool {
	return kind == endpoint.KindTags || kind == endpoint.KindReferrers || kind == KindCatalog
}

// query returns what the registry gets of a client's query.
func query(t Target, raw, from string) string {
	switch {
	case t.Kind == KindAPI:
		return raw
	case t.Kind.IsUploads() && !t.Begins():
		return withoutNS(raw)
	}
	kept := knownOf(t.Kind, raw)
	if from == "" {
		return kept
	}
	values, _ := url.ParseQuery(kept) // we wrote it
	all, _ := url.ParseQuery(raw)     // what does not parse is left out
	values.Set("mount", all.Get("mount"))
	values.Set("from", from)
	return values.Encode()
}

// knownOf returns a raw query of which only the known parameters are left, of each the first.
func knownOf(kind endpoint.Kind, raw string) string {
	known := parameters(kind)
	if raw == "" || known == nil {
		return ""
	}
	all, _ := url.ParseQuery(raw) // what does not parse is left out
	kept := url.Values{}
	for _, name := range known {
		if all.Has(name) {
			kept.Set(name, all.Get(name))
		}
	}
	return kept.Encode()
}

// withoutNS returns a raw query without the parameter that containerd adds, and
// else byte for byte: where an upload goes on, the registry wrote it.
func withoutNS(raw string) string {
	parts := strings.Split(raw, "&")
	kept := parts[:0]
	for _, part := range parts {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err != nil || plain != "ns" {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}

// mountSource returns the repository that a new upload may take a blob over
// from, and nothing where the client asks for none that Berth could name to the
// registry: then an ordinary upload begins, which the specification lets every
// registry do. A repository is named as clients know it, by its Connector, whose
// rules must let the caller pull from it. Without a source the registry would
// look wherever the Connector's credential lets it.
func mountSource(raw string, c *access.Connector, caller access.Caller) string {
	all, err := url.ParseQuery(raw)
	if err != nil || len(all["mount"]) != 1 || len(all["from"]) != 1 || !endpoint.IsDigest(all.Get("mount")) {
		return ""
	}
	from, repository, err := route.Cut(all.Get("from"))
	if err != nil || from != c.Connector || !endpoint.IsRepository(repository) {
		return ""
	}
	if c.Check(caller, repository, v1alpha1.ActionPull) != nil {
		return ""
	}
	return repository
}
