package access_test

import (
	"errors"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
)

const owner = "harbor" // the namespace of the Connectors in these tests

func same() v1alpha1.AccessNamespaces {
	return v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromSame}
}

func everywhere() v1alpha1.AccessNamespaces {
	return v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromAll}
}

func labelled(key, value string) v1alpha1.AccessNamespaces {
	return v1alpha1.AccessNamespaces{
		From:     v1alpha1.NamespacesFromSelector,
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}},
	}
}

func rule(namespaces v1alpha1.AccessNamespaces, actions ...v1alpha1.Action) v1alpha1.AccessRule {
	return v1alpha1.AccessRule{Namespaces: namespaces, Actions: actions}
}

func patterns(namespaces v1alpha1.AccessNamespaces, repositories ...string) v1alpha1.AccessRule {
	return v1alpha1.AccessRule{Namespaces: namespaces, Repositories: repositories}
}

func compile(t testing.TB, spec ...v1alpha1.AccessRule) access.Rules {
	t.Helper()
	rules, err := access.Compile(owner, spec)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestCheck(t *testing.T) {
	t.Parallel()
	own := access.Caller{Namespace: owner}
	other := access.Caller{Namespace: "shop", Labels: map[string]string{"team": "payments"}}
	const pull, push = v1alpha1.ActionPull, v1alpha1.ActionPush
	for name, tc := range map[string]struct {
		spec   []v1alpha1.AccessRule
		caller access.Caller
		action v1alpha1.Action
		want   error
	}{
		"empty: own pulls":                   {caller: own, action: pull},
		"empty: own pushes":                  {caller: own, action: push},
		"empty: own may not delete":          {caller: own, action: v1alpha1.ActionDelete, want: access.ErrAction},
		"empty: own may not call the API":    {caller: own, action: v1alpha1.ActionAPI, want: access.ErrAction},
		"empty: other":                       {caller: other, action: pull, want: access.ErrNamespace},
		"same":                               {spec: []v1alpha1.AccessRule{rule(same())}, caller: own, action: pull},
		"same: other":                        {spec: []v1alpha1.AccessRule{rule(same())}, caller: other, action: pull, want: access.ErrNamespace},
		"from left out is same":              {spec: []v1alpha1.AccessRule{{}}, caller: own, action: pull},
		"from left out: other":               {spec: []v1alpha1.AccessRule{{}}, caller: other, action: pull, want: access.ErrNamespace},
		"all":                                {spec: []v1alpha1.AccessRule{rule(everywhere())}, caller: other, action: pull},
		"all: nobody":                        {spec: []v1alpha1.AccessRule{rule(everywhere())}, action: pull, want: access.ErrNamespace},
		"selector":                           {spec: []v1alpha1.AccessRule{rule(labelled("team", "payments"))}, caller: other, action: pull},
		"selector: own, not listed":          {spec: []v1alpha1.AccessRule{rule(labelled("team", "payments"))}, caller: own, action: pull, want: access.ErrNamespace},
		"selector: another value":            {spec: []v1alpha1.AccessRule{rule(labelled("team", "web"))}, caller: other, action: pull, want: access.ErrNamespace},
		"selector: missing":                  {spec: []v1alpha1.AccessRule{rule(v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromSelector})}, caller: other, action: pull, want: access.ErrNamespace},
		"actions left out are pull":          {spec: []v1alpha1.AccessRule{rule(same())}, caller: own, action: push, want: access.ErrAction},
		"actions: the listed":                {spec: []v1alpha1.AccessRule{rule(same(), push)}, caller: own, action: push},
		"actions: push is not pull":          {spec: []v1alpha1.AccessRule{rule(same(), push)}, caller: own, action: pull, want: access.ErrAction},
		"action unknown":                     {spec: []v1alpha1.AccessRule{rule(same())}, caller: own, want: access.ErrAction},
		"repository":                         {spec: []v1alpha1.AccessRule{patterns(same(), "library/*", "team/app")}, caller: own, action: pull},
		"repository: another":                {spec: []v1alpha1.AccessRule{patterns(same(), "library/*")}, caller: own, action: pull, want: access.ErrRepository},
		"repository before action":           {spec: []v1alpha1.AccessRule{patterns(same(), "library/*")}, caller: own, action: push, want: access.ErrRepository},
		"rules do not add up":                {spec: []v1alpha1.AccessRule{patterns(same(), "team/*"), rule(everywhere(), v1alpha1.ActionAPI)}, caller: own, action: push, want: access.ErrAction},
		"a later rule grants":                {spec: []v1alpha1.AccessRule{patterns(same(), "x"), rule(everywhere())}, caller: own, action: pull},
		"narrowest refusal, first rule":      {spec: []v1alpha1.AccessRule{rule(same()), patterns(same(), "x")}, caller: own, action: push, want: access.ErrAction},
		"narrowest refusal, last rule":       {spec: []v1alpha1.AccessRule{patterns(same(), "x"), rule(same())}, caller: own, action: push, want: access.ErrAction},
		"narrowest refusal, rules of others": {spec: []v1alpha1.AccessRule{patterns(same(), "x"), rule(everywhere(), push)}, caller: other, action: pull, want: access.ErrAction},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := compile(t, tc.spec...).Check(tc.caller, "team/app", tc.action); !errors.Is(err, tc.want) {
				t.Errorf("Check = %v, want %v", err, tc.want)
			}
		})
	}
}

func TestZeroRulesGrantNothing(t *testing.T) {
	t.Parallel()
	var rules access.Rules
	if err := rules.Check(access.Caller{Namespace: owner}, "app", v1alpha1.ActionPull); !errors.Is(err, access.ErrNamespace) {
		t.Errorf("Check = %v, want %v", err, access.ErrNamespace)
	}
}

func TestVisible(t *testing.T) {
	t.Parallel()
	rules := compile(t, patterns(labelled("team", "payments"), "payments/**"))
	for name, tc := range map[string]struct {
		caller access.Caller
		want   bool
	}{
		"listed":  {caller: access.Caller{Namespace: "shop", Labels: map[string]string{"team": "payments"}}, want: true},
		"own":     {caller: access.Caller{Namespace: owner}},
		"unnamed": {caller: access.Caller{Labels: map[string]string{"team": "payments"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := rules.Visible(tc.caller); got != tc.want {
				t.Errorf("Visible = %t, want %t", got, tc.want)
			}
		})
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for pattern, tc := range map[string]struct{ yes, no []string }{
		"app":           {yes: []string{"app"}, no: []string{"apps", "app/x", "x/app", ""}},
		"*":             {yes: []string{"app"}, no: []string{"team/app"}},
		"**":            {yes: []string{"app", "team/app", "a/b/c/d"}},
		"payments/*":    {yes: []string{"payments/x"}, no: []string{"payments", "payments/x/y", "payments-evil/x"}},
		"payments/**":   {yes: []string{"payments", "payments/x", "payments/x/y"}, no: []string{"payments-evil/x", "payments-evil", "evil/payments/x"}},
		"payments*":     {yes: []string{"payments", "payments-evil"}, no: []string{"payments/x"}},
		"payments**":    {yes: []string{"payments-evil"}, no: []string{"payments/x"}}, // not a component of its own: as '*'
		"**/app":        {yes: []string{"app", "team/app", "a/b/app"}, no: []string{"team/myapp", "app/x"}},
		"team/**/app":   {yes: []string{"team/app", "team/a/b/app"}, no: []string{"team/a", "teams/app"}},
		"team/app-*-v1": {yes: []string{"team/app-x-v1"}, no: []string{"team/app-v1", "team/app-x/y-v1"}},
	} {
		t.Run(pattern, func(t *testing.T) {
			t.Parallel()
			rules := compile(t, patterns(same(), pattern))
			caller := access.Caller{Namespace: owner}
			for _, repository := range tc.yes {
				if err := rules.Check(caller, repository, v1alpha1.ActionPull); err != nil {
					t.Errorf("Check(%q) = %v", repository, err)
				}
			}
			for _, repository := range tc.no {
				if err := rules.Check(caller, repository, v1alpha1.ActionPull); !errors.Is(err, access.ErrRepository) {
					t.Errorf("Check(%q) = %v, want %v", repository, err, access.ErrRepository)
				}
			}
		})
	}
}

func TestMatchIsAsSpecificAsTheLongestGrantingPattern(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spec []v1alpha1.AccessRule
		want int
	}{
		"all repositories":         {spec: []v1alpha1.AccessRule{rule(same())}},
		"one pattern":              {spec: []v1alpha1.AccessRule{patterns(same(), "team/*")}, want: len("team/*")},
		"longest of a rule":        {spec: []v1alpha1.AccessRule{patterns(same(), "**", "team/app", "team/*")}, want: len("team/app")},
		"longest of all rules":     {spec: []v1alpha1.AccessRule{rule(same()), patterns(same(), "team/*"), patterns(everywhere(), "**")}, want: len("team/*")},
		"not one that misses":      {spec: []v1alpha1.AccessRule{patterns(same(), "team/**", "team/another")}, want: len("team/**")},
		"not one that does not do": {spec: []v1alpha1.AccessRule{rule(same()), {Repositories: []string{"team/app"}, Actions: []v1alpha1.Action{v1alpha1.ActionPush}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := compile(t, tc.spec...).Match(access.Caller{Namespace: owner}, "team/app", v1alpha1.ActionPull)
			if err != nil || got != tc.want {
				t.Errorf("Match = %d, %v, want %d", got, err, tc.want)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	operator := labelled("team", "x")
	operator.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}
	for name, spec := range map[string]v1alpha1.AccessRule{
		"pattern":  patterns(same(), "a[b"),
		"selector": rule(operator),
		"from":     rule(v1alpha1.AccessNamespaces{From: "Everywhere"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := access.Compile(owner, []v1alpha1.AccessRule{{}, spec}); err == nil {
				t.Error("Compile accepts it")
			}
		})
	}
}

// A Connector without a namespace is of no cluster. What it grants to "Same", it grants to nobody.
func TestSameOfNoNamespaceIsNobody(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string][]v1alpha1.AccessRule{"empty": nil, "same": {rule(same())}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules, err := access.Compile("", spec)
			if err != nil {
				t.Fatal(err)
			}
			for _, caller := range []access.Caller{{}, {Namespace: "shop"}} {
				if err := rules.Check(caller, "app", v1alpha1.ActionPull); !errors.Is(err, access.ErrNamespace) {
					t.Errorf("Check(%v) = %v, want %v", caller, err, access.ErrNamespace)
				}
			}
		})
	}
}

func FuzzCheck(f *testing.F) {
	for _, seed := range [][2]string{
		{"payments/**", "payments/x"}, {"**/a/**/b", "a/a/b/b"}, {"*a*a*a*", "aaaa"}, {"[a-z]{b,c}?", "abx"}, {`\*`, "*"}, {"", ""}, {"a", "\xff"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, repository string) {
		rules, err := access.Compile(owner, []v1alpha1.AccessRule{patterns(everywhere(), pattern)})
		if err != nil {
			return
		}
		if err := rules.Check(access.Caller{}, repository, v1alpha1.ActionPull); !errors.Is(err, access.ErrNamespace) {
			t.Errorf("Check of no namespace = %v, want %v", err, access.ErrNamespace)
		}
		specific, err := rules.Match(access.Caller{Namespace: "shop"}, repository, v1alpha1.ActionPull)
		if err != nil && !errors.Is(err, access.ErrRepository) || err == nil && specific != len(pattern) {
			t.Errorf("Match = %d, %v", specific, err)
		}
		if err := rules.Check(access.Caller{Namespace: "shop"}, repository, v1alpha1.ActionPush); err == nil {
			t.Error("Check grants an action that no rule lists")
		}
	})
}
