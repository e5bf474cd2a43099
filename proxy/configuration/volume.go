package configuration

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

const (
	// format goes into every generation: it changes when the files are made in another way.
	format = "1"
	// most bounds the Connectors that a volume names, those that templates see, and its configurations.
	most = 64
	// mostGranted bounds the Connectors of a volume that names none, whose authorities must fit into it several times.
	mostGranted = 512
	// maxVolume is the most that templates may make for a volume.
	maxVolume = 2 << 20
	// generationBytes of a hash are enough to tell two sets of files of one Pod apart.
	generationBytes = 16
	// maxAttribute is the longest attribute that is read.
	maxAttribute = 16 << 10
)

var mountPaths = regexp.MustCompile(v1alpha1.MountPathPattern)

// attributes are those of a volume, as its Pod has them.
type attributes struct {
	connectors     string // as they were written
	named          []route.Connector
	configurations []string
	mountPath      string
}

// parse reads the attributes from a query.
func parseAttributes(query url.Values, namespace string) (*attributes, error) {
	for name, values := range query {
		switch {
		case name != v1alpha1.VolumeConnectors && name != v1alpha1.VolumeConfigurations && name != v1alpha1.VolumeMountPath:
			return nil, invalid("attribute '%s' is not known; use `%s`, `%s` and `%s`",
				shorten(name), v1alpha1.VolumeConnectors, v1alpha1.VolumeConfigurations, v1alpha1.VolumeMountPath)
		case len(values) != 1 || len(values[0]) > maxAttribute:
			return nil, invalid("attribute '%s' must stand once and have at most %d bytes", name, maxAttribute)
		}
	}
	a := &attributes{mountPath: cmp.Or(query.Get(v1alpha1.VolumeMountPath), v1alpha1.DefaultMountPath)}
	if !mountPaths.MatchString(a.mountPath) || path.Clean(a.mountPath) != a.mountPath {
		return nil, invalid("attribute `%s` must be an absolute path of letters, digits, '.', '_' and '-', such as '%s'", v1alpha1.VolumeMountPath, v1alpha1.DefaultMountPath)
	}
	for _, text := range split(query.Get(v1alpha1.VolumeConnectors)) {
		name, err := route.ParseName(text, namespace)
		if err != nil {
			return nil, invalid("attribute `%s`: '%s' must be 'NAMESPACE/NAME', or 'NAME' for a Connector of the Pod's namespace", v1alpha1.VolumeConnectors, shorten(text))
		}
		if !slices.Contains(a.named, name) {
			a.named = append(a.named, name)
		}
	}
	a.configurations = unique(split(query.Get(v1alpha1.VolumeConfigurations)))
	if len(a.named) > most || len(a.configurations) > most {
		return nil, invalid("a volume may have %d Connectors and %d configurations at most; use another volume for the others", most, most)
	}
	a.connectors = joined(a.named)
	return a, nil
}

// split reads a list of names between commas.
func split(list string) []string {
	names := strings.Split(list, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// unique leaves the first of each name.
func unique(names []string) []string {
	var kept []string
	for _, name := range names {
		if !slices.Contains(kept, name) {
			kept = append(kept, name)
		}
	}
	return kept
}

func joined(connectors []route.Connector) string {
	names := make([]string, len(connectors))
	for i, c := range connectors {
		names[i] = c.String()
	}
	return strings.Join(names, ",")
}

// shorten makes hostile input fit for a message.
func shorten(text string) string {
	const longest = 80
	if len(text) > longest {
		text = text[:longest] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}

// connectors returns those of a volume: the ones that it names, and else those
// of its own and of trusted namespaces that grant it anything.
func (h *handler) connectors(a *attributes, caller access.Caller) ([]*access.Connector, error) {
	if len(a.named) == 0 {
		return h.granted(caller), nil
	}
	found := make([]*access.Connector, 0, len(a.named))
	for _, name := range a.named {
		c, ok := h.Catalogue.Get(name)
		if !ok {
			return nil, refuse(http.StatusNotFound, ReasonUnknown, "there is no Connector '%s' in namespace '%s'; correct the volume's attribute `%s`", name.Name, name.Namespace, v1alpha1.VolumeConnectors)
		}
		if !c.Visible(caller) {
			return nil, refuse(http.StatusForbidden, ReasonForbidden, "Connector '%s' does not list namespace '%s' in `spec.access`; ask its owner", name, caller.Namespace)
		}
		found = append(found, c)
	}
	return found, nil
}

// granted are the Connectors that a Pod may be given without naming them, in the order of their names.
func (h *handler) granted(caller access.Caller) []*access.Connector {
	visible := slices.DeleteFunc(h.Catalogue.Visible(caller), func(c *access.Connector) bool {
		return c.Namespace != caller.Namespace && !slices.Contains(h.Trusted, c.Namespace)
	})
	slices.SortFunc(visible, func(a, b *access.Connector) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return visible[:min(len(visible), mostGranted)]
}

// part is a configuration of a volume, with the Connectors that it is about.
type part struct {
	name, class string
	set         *set
	connectors  []ConnectorValues
}

// parts finds each configuration in the Connectors' classes.
func (h *handler) parts(names []string, connectors []*access.Connector) ([]part, error) {
	parts := make([]part, 0, len(names))
	for _, name := range names {
		p, err := h.part(name, connectors)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func (h *handler) part(name string, connectors []*access.Connector) (part, error) {
	p := part{name: name}
	var offered []string
	for _, c := range connectors {
		class, ok := h.Classes.get(c.Spec.ConnectorClassName)
		if !ok {
			return p, refuse(http.StatusUnprocessableEntity, ReasonUnknown,
				"Connector '%s' is of ConnectorClass '%s', which does not exist; its owner must correct `spec.connectorClassName`", c.Connector, shorten(c.Spec.ConnectorClassName))
		}
		s, ok := class.configurations[name]
		if !ok {
			offered = unique(append(offered, class.offers()...))
			continue
		}
		if p.set == nil {
			p.set, p.class = s, class.name
		}
		if s.digest != p.set.digest {
			return p, refuse(http.StatusUnprocessableEntity, ReasonConflict,
				"ConnectorClasses '%s' and '%s' write configuration '%s' differently, so that it cannot be one for both; mount their Connectors in two volumes", p.class, class.name, name)
		}
		p.connectors = append(p.connectors, valuesOf(c, h.ClusterDomain))
	}
	return p, p.usable(len(connectors) > 0, offered)
}

// usable says why there is nothing to render, if so.
func (p *part) usable(connectors bool, offered []string) error {
	switch {
	case p.set != nil && p.set.err != nil:
		return refuse(http.StatusUnprocessableEntity, ReasonTemplate, "%v", templateError(p.class, p.name, p.set.err))
	case p.set != nil:
		return nil
	case !connectors:
		return refuse(http.StatusNotFound, ReasonUnknown,
			"no Connector is there for configuration '%s'; name one in the volume's attribute `%s`, or make one that lists the Pod's namespace in `spec.access`", shorten(p.name), v1alpha1.VolumeConnectors)
	default:
		slices.Sort(offered)
		return refuse(http.StatusNotFound, ReasonUnknown, "no ConnectorClass of the volume's Connectors has a configuration '%s'; correct the attribute `%s`: there are '%s'",
			shorten(p.name), v1alpha1.VolumeConfigurations, strings.Join(offered, "', '"))
	}
}

// volume is all that goes into the files of one.
type volume struct {
	values Values
	parts  []part
	trusts *trusts
}

// generation is a hash of what goes in: as long as it stays, so do the files.
func (v *volume) generation() string {
	all := []any{format, v.trusts.digest, v.values}
	for _, p := range v.parts {
		all = append(all, p.name, p.set.digest, p.connectors)
	}
	text, _ := cbor.Marshal(all) // strings and bytes always marshal
	hash := sha256.Sum256(text)
	return hex.EncodeToString(hash[:generationBytes])
}

// files renders the volume for a node that has some contents.
func (v *volume) files(have []string) (*v1alpha1.Files, error) {
	trust, err := v.trusts.with([]byte(v.values.CACert))
	if err != nil {
		return nil, err
	}
	all := fixed(&v.values, trust)
	writer := map[string]string{}
	total := 0
	for _, p := range v.parts {
		values := v.values
		values.Connectors = p.connectors
		for _, f := range p.set.files {
			if _, taken := all[f.name]; taken {
				return nil, refuse(http.StatusUnprocessableEntity, ReasonConflict, "configurations '%s' and '%s' both write the file '%s'; mount them in two volumes", cmp.Or(writer[f.name], "(every volume)"), p.name, f.name)
			}
			content, err := f.render(&values)
			if err != nil {
				return nil, refuse(http.StatusUnprocessableEntity, ReasonTemplate, "%v", templateError(p.class, p.name, err))
			}
			if total += len(content); total > maxVolume {
				return nil, refuse(http.StatusUnprocessableEntity, ReasonTemplate, "the files of configurations '%s' are more than %d bytes together; mount them in two volumes", strings.Join(names(v.parts), "', '"), maxVolume)
			}
			all[f.name], writer[f.name] = content, p.name
		}
	}
	return &v1alpha1.Files{Same: trust.leaveOut(all, have), Files: all}, nil
}

func names(parts []part) []string {
	all := make([]string, len(parts))
	for i, p := range parts {
		all[i] = p.name
	}
	return all
}
