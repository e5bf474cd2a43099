// Package access decides who may do what with a Connector.
//
// The owner of a credential writes the rules into the Connector itself
// (`spec.access`); this package compiles them once and evaluates them wherever
// the question falls: at admission, in the proxies, for CSI volumes. It is the
// one place that knows the rules, it asks nobody, and an evaluation takes
// microseconds, so no request waits for the API server.
//
// A caller is a namespace: that is the unit of isolation of Kubernetes. What no
// rule grants is refused.
//
// Catalogue holds the compiled Connectors by name and by registry.
package access

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/bmatcuk/doublestar/v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api/v1alpha1"
)

// Caller is a namespace that wants to use a Connector.
type Caller struct {
	// Namespace is its name.
	Namespace string
	// Labels are those of the Namespace object, never of a Pod.
	Labels map[string]string
}

// The refusals that Check returns, from the widest to the narrowest.
var (
	// ErrNamespace: no rule lists the caller's namespace.
	ErrNamespace = errors.New("namespace is not granted access")
	// ErrRepository: rules list the namespace, but not for this repository.
	ErrRepository = errors.New("repository is not granted")
	// ErrAction: rules list the namespace and the repository, but not for this action.
	ErrAction = errors.New("action is not granted")
)

// patternForm is what the CRD says of a pattern of repositories.
var patternForm = regexp.MustCompile(`^[a-z0-9*]([a-z0-9._*-]*[a-z0-9*])?(/[a-z0-9*]([a-z0-9._*-]*[a-z0-9*])?)*$`)

// mostPattern is the most bytes of a pattern.
const mostPattern = 255

// Rules are the compiled `access` of a Connector. The zero value grants nothing.
type Rules struct {
	rules []rule
}

type rule struct {
	namespaces   labels.Selector // nil: same alone
	same         string
	repositories []string // none: all
	actions      []v1alpha1.Action
}

// Compile prepares the rules of a Connector in the given namespace. It fails on
// a selector or pattern that the API server would not have admitted.
func Compile(namespace string, spec []v1alpha1.AccessRule) (Rules, error) {
	if len(spec) == 0 {
		return Rules{[]rule{{same: namespace, actions: []v1alpha1.Action{v1alpha1.ActionPull, v1alpha1.ActionPush}}}}, nil
	}
	compiled := make([]rule, 0, len(spec))
	for i := range spec {
		r, err := compileRule(namespace, &spec[i])
		if err != nil {
			return Rules{}, fmt.Errorf("`spec.access[%d]`: %w", i, err)
		}
		compiled = append(compiled, r)
	}
	return Rules{compiled}, nil
}

func compileRule(namespace string, spec *v1alpha1.AccessRule) (rule, error) {
	r := rule{repositories: spec.Repositories, actions: spec.Actions}
	if len(r.actions) == 0 {
		r.actions = []v1alpha1.Action{v1alpha1.ActionPull}
	}
	for _, p := range r.repositories {
		if len(p) > mostPattern || !patternForm.MatchString(p) || !doublestar.ValidatePattern(p) {
			return rule{}, fmt.Errorf("`repositories`: '%s' is not a pattern", p)
		}
	}
	for _, a := range r.actions {
		if !slices.Contains([]v1alpha1.Action{v1alpha1.ActionPull, v1alpha1.ActionPush, v1alpha1.ActionDelete, v1alpha1.ActionAPI}, a) {
			return rule{}, fmt.Errorf("`actions`: '%s' must be pull, push, delete or api", a)
		}
	}
	if spec.Namespaces.From != v1alpha1.NamespacesFromSelector && spec.Namespaces.Selector != nil {
		return rule{}, errors.New("`namespaces`: `selector` must stand with `from: Selector`, and only with it")
	}
	switch spec.Namespaces.From {
	case "", v1alpha1.NamespacesFromSame:
		r.same = namespace
	case v1alpha1.NamespacesFromAll:
		r.namespaces = labels.Everything()
	case v1alpha1.NamespacesFromSelector:
		selector, err := metav1.LabelSelectorAsSelector(spec.Namespaces.Selector)
		if err != nil {
			return rule{}, fmt.Errorf("`namespaces.selector`: %w", err)
		}
		r.namespaces = selector // of a nil selector: matches nothing
	default:
		return rule{}, fmt.Errorf("`namespaces.from`: '%s' must be Same, All or Selector", spec.Namespaces.From)
	}
	return r, nil
}

// Visible reports whether any rule lists the caller's namespace.
func (r Rules) Visible(c Caller) bool {
	return slices.ContainsFunc(r.rules, func(r rule) bool { return r.lists(c) })
}

// Check returns nil where the caller may do the action on the repository, and
// else ErrNamespace, ErrRepository or ErrAction. No repository stands for the
// registry as a whole: only a rule about all repositories grants it.
func (r Rules) Check(c Caller, repository string, action v1alpha1.Action) error {
	_, err := r.Match(c, repository, action)
	return err
}

// Match is Check, and returns how specific the grant is: the length of the
// longest pattern that grants it, 0 for a rule about all repositories.
func (r Rules) Match(c Caller, repository string, action v1alpha1.Action) (specific int, err error) {
	err = ErrNamespace
	granted := false
	for i := range r.rules {
		n, refused := r.rules[i].match(c, repository, action)
		switch {
		case refused == nil:
			specific, granted = max(specific, n), true
		case narrower(refused, err):
			err = refused
		}
	}
	if granted {
		return specific, nil
	}
	return 0, err
}

// narrower reports whether refusal a says more than refusal b.
func narrower(a, b error) bool {
	order := [...]error{ErrNamespace, ErrRepository, ErrAction}
	return slices.Index(order[:], a) > slices.Index(order[:], b)
}

func (r *rule) match(c Caller, repository string, action v1alpha1.Action) (int, error) {
	if !r.lists(c) {
		return 0, ErrNamespace
	}
	n, ok := r.longestPattern(repository)
	if !ok {
		return 0, ErrRepository
	}
	if !slices.Contains(r.actions, action) {
		return 0, ErrAction
	}
	return n, nil
}

func (r *rule) lists(c Caller) bool {
	switch {
	case c.Namespace == "":
		return false
	case r.namespaces != nil:
		return r.namespaces.Matches(labels.Set(c.Labels))
	default:
		return r.same == c.Namespace
	}
}

// longestPattern returns the length of the longest pattern that matches. The
// patterns were validated, so they cannot fail here. What is about no repository
// in particular is about all of them, which '*' is not.
func (r *rule) longestPattern(repository string) (int, bool) {
	switch {
	case len(r.repositories) == 0:
		return 0, true
	case repository == "":
		return 0, slices.Contains(r.repositories, "**")
	}
	longest := -1
	for _, p := range r.repositories {
		if len(p) > longest && doublestar.MatchUnvalidated(p, repository) {
			longest = len(p)
		}
	}
	return max(longest, 0), longest >= 0
}
