package api_test

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// TestConfigurationValidation: what a class's configurations may be, by the API server, with words that say what to write.
func TestConfigurationValidation(t *testing.T) {
	w := enter(t)
	type configurations = []v1alpha1.ClassConfiguration
	named := func(name string) configurations {
		return configurations{{Name: name, Files: []v1alpha1.ClassFile{{Name: "x", Template: "x"}}}}
	}
	file := func(name string) configurations {
		return configurations{{Name: "conf", Files: []v1alpha1.ClassFile{{Name: name, Template: "x"}}}}
	}
	const (
		label = "must be a DNS label"
		plain = "must be letters, digits, '.', '_' and '-', without a folder"
		taken = "may not be that of a file which every volume has"
	)
	for what, tc := range map[string]struct {
		configurations configurations
		says           string // empty: it is accepted
	}{
		"none":              {nil, ""},
		"plain":             {named("registry-config"), ""},
		"empty template":    {configurations{{Name: "a", Files: []v1alpha1.ClassFile{{Name: "x"}}}}, ""},
		"63 characters":     {named(strings.Repeat("a", 63)), ""},
		"64 characters":     {named(strings.Repeat("a", 64)), "63"},
		"upper case":        {named("Buildkitd"), label},
		"comma":             {named("a,b"), label},
		"dash at the end":   {named("a-"), label},
		"empty name":        {named(""), "name"},
		"the same twice":    {append(named("a"), named("a")...), "Duplicate value"},
		"no files":          {configurations{{Name: "a"}}, "files"},
		"hidden file":       {file(".npmrc"), ""},
		"file in a folder":  {file("a/b"), plain},
		"file '.'":          {file("."), plain},
		"file '..'":         {file(".."), plain},
		"file '..data'":     {file("..data"), plain},
		"file with a space": {file("a b"), plain},
		"file too long":     {file(strings.Repeat("a", 129)), "128"},
		"file of ours":      {file("ca.crt"), taken},
		".env":              {file(".env"), taken},
		"token":             {file("context.token"), taken},
		"64 KiB":            {configurations{{Name: "a", Files: []v1alpha1.ClassFile{{Name: "x", Template: strings.Repeat("x", 65536)}}}}, ""},
		"more than that":    {configurations{{Name: "a", Files: []v1alpha1.ClassFile{{Name: "x", Template: strings.Repeat("x", 65537)}}}}, "65536"},
	} {
		class := &v1alpha1.ConnectorClass{Spec: v1alpha1.ConnectorClassSpec{
			Configurations: tc.configurations,
			Probes:         v1alpha1.ClassProbes{Liveness: v1alpha1.Probe{Path: "/"}, Auth: v1alpha1.Probe{Path: "/"}},
		}}
		class.Name = "validated"
		err := w.client.Create(w.ctx, class, client.DryRunAll)
		switch {
		case tc.says == "" && err != nil:
			t.Errorf("%s: %v", what, err)
		case tc.says != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.says)):
			t.Errorf("%s: must be refused and say %q: %v", what, tc.says, err)
		}
	}
}
