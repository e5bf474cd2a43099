package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// TestConnectorValidation: what a Connector may be, by the API server, with words that say what to write.
func TestConnectorValidation(t *testing.T) {
	w := enter(t)
	namespace := w.namespace("crd").Name
	address := func(a string) func(*v1alpha1.Connector) {
		return func(c *v1alpha1.Connector) { c.Spec.Address = a }
	}
	name := func(n string) func(*v1alpha1.Connector) { return func(c *v1alpha1.Connector) { c.Name = n } }
	access := func(r v1alpha1.AccessRule) func(*v1alpha1.Connector) {
		return func(c *v1alpha1.Connector) { c.Spec.Access = []v1alpha1.AccessRule{r} }
	}
	from := func(f v1alpha1.NamespacesFrom, s *metav1.LabelSelector) func(*v1alpha1.Connector) {
		return access(v1alpha1.AccessRule{Namespaces: v1alpha1.AccessNamespaces{From: f, Selector: s}})
	}
	repository := func(r string) func(*v1alpha1.Connector) {
		return access(v1alpha1.AccessRule{Repositories: []string{r}})
	}
	const (
		form     = "scheme://host[:port][/path]"
		loopback = "may not be loopback or link-local"
		label    = "at most 61 characters"
		selector = "`selector` must stand with `from: Selector`"
	)
	for what, tc := range map[string]struct {
		change func(*v1alpha1.Connector)
		says   string // empty: it is accepted
	}{
		"plain":                 {address("https://harbor.example.com"), ""},
		"port":                  {address("https://harbor.example.com:8443"), ""},
		"http":                  {address("http://harbor.example.com"), ""},
		"path":                  {address("https://harbor.example.com/artifactory/api/docker/repo"), ""},
		"private IPv4":          {address("https://10.0.0.5:5000"), ""},
		"IPv6":                  {address("https://[fd00::5]:5000"), ""},
		"one label":             {address("https://harbor"), ""},
		"trailing slash":        {address("https://harbor.example.com/"), form},
		"no scheme":             {address("harbor.example.com"), form},
		"another scheme":        {address("oci://harbor.example.com"), form},
		"user":                  {address("https://user:password@harbor.example.com"), form},
		"query":                 {address("https://harbor.example.com?x=y"), form},
		"fragment":              {address("https://harbor.example.com#x"), form},
		"upper case":            {address("https://Harbor.example.com"), form},
		"dot segments":          {address("https://harbor.example.com/a/../b"), form},
		"space":                 {address("https://harbor.example.com/a b"), form},
		"line break":            {address("https://harbor.example.com\nx"), form},
		"percent":               {address("https://harbor.example.com/%2e%2e"), form},
		"port 0":                {address("https://harbor.example.com:0"), form},
		"port too high":         {address("https://harbor.example.com:65536"), form},
		"highest port":          {address("https://harbor.example.com:65535"), ""},
		"empty":                 {address(""), form},
		"too long":              {address("https://harbor.example.com/" + strings.Repeat("a", 512)), "512"},
		"localhost":             {address("https://localhost:5000"), loopback},
		"127.0.0.1":             {address("https://127.0.0.1"), loopback},
		"metadata service":      {address("http://169.254.169.254"), loopback},
		"0.0.0.0":               {address("https://0.0.0.0"), loopback},
		"::1":                   {address("https://[::1]"), loopback},
		"::":                    {address("https://[::]"), loopback},
		"mapped":                {address("https://[::ffff:127.0.0.1]"), loopback},
		"link-local IPv6":       {address("https://[fe80::1]:443"), loopback},
		"name below localhost":  {address("https://a.localhost/x"), loopback},
		"short loopback":        {address("https://127.1:5000"), loopback},
		"begins like localhost": {address("https://localhost-registry.example.com"), ""},
		"begins like loopback":  {address("https://127.example.com"), ""},
		"61 characters":         {name("a" + strings.Repeat("b", 60)), ""},
		"62 characters":         {name("a" + strings.Repeat("b", 61)), label},
		"begins with a digit":   {name("1a"), label},
		"dot in the name":       {name("a.b"), label},
		"from All":              {from(v1alpha1.NamespacesFromAll, nil), ""},
		"from Selector":         {from(v1alpha1.NamespacesFromSelector, &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}), ""},
		"from nothing":          {from("", nil), ""},
		"from elsewhere":        {from("Elsewhere", nil), "Unsupported value: \"Elsewhere\""},
		"no selector":           {from(v1alpha1.NamespacesFromSelector, nil), selector},
		"selector with All":     {from(v1alpha1.NamespacesFromAll, &metav1.LabelSelector{}), selector},
		"selector without from": {from("", &metav1.LabelSelector{}), selector},
		"pattern":               {repository("team/**"), ""},
		"pattern of all":        {repository("**"), ""},
		"pattern in a name":     {repository("team/app-*"), ""},
		"pattern with /":        {repository("/team"), "spec.access[0].repositories[0]"},
		"pattern upper case":    {repository("Team"), "spec.access[0].repositories[0]"},
		"pattern braces":        {repository("{a,b}"), "spec.access[0].repositories[0]"},
		"pattern too long":      {repository(strings.Repeat("a", 256)), "spec.access[0].repositories[0]"},
		"actions":               {access(v1alpha1.AccessRule{Actions: []v1alpha1.Action{"pull", "push", "delete", "api"}}), ""},
		"another action":        {access(v1alpha1.AccessRule{Actions: []v1alpha1.Action{"admin"}}), `Unsupported value: "admin"`},
		"an action twice":       {access(v1alpha1.AccessRule{Actions: []v1alpha1.Action{"pull", "pull"}}), "Duplicate value"},
		"no class":              {func(c *v1alpha1.Connector) { c.Spec.ConnectorClassName = "" }, "spec.connectorClassName"},
		"Secret without name":   {func(c *v1alpha1.Connector) { c.Spec.Auth = &v1alpha1.ConnectorAuth{Name: "basicAuth"} }, "spec.auth.secretRef.name"},
	} {
		c := &v1alpha1.Connector{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "registry"},
			Spec:       v1alpha1.ConnectorSpec{ConnectorClassName: "oci", Address: "https://harbor.example.com"},
		}
		tc.change(c)
		err := w.client.Create(w.ctx, c, client.DryRunAll)
		switch {
		case tc.says == "" && err != nil:
			t.Errorf("%s: %v", what, err)
		case tc.says != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.says)):
			t.Errorf("%s: must be refused and say %q: %v", what, tc.says, err)
		}
	}
}

// TestAddressStays: a credential never follows to another host.
func TestAddressStays(t *testing.T) {
	w := enter(t)
	c := &v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace("crd").Name, Name: "registry"},
		Spec:       v1alpha1.ConnectorSpec{ConnectorClassName: "oci", Address: "https://harbor.example.com"},
	}
	w.ok(w.client.Create(w.ctx, c))
	err := w.client.Patch(w.ctx, c.DeepCopy(), merge(`{"spec":{"address":"https://evil.example.com"}}`))
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "make a new Connector") {
		t.Errorf("the address was changed: %v", err)
	}
	w.ok(w.client.Patch(w.ctx, c, merge(`{"spec":{"access":[{"namespaces":{"from":"All"}}]}}`)))
	out := w.kubectl(w.ctx, "", "-n", c.Namespace, "get", "conn")
	if header := strings.Fields(strings.SplitN(out.stdout, "\n", 2)[0]); diff([]string{"NAME", "CLASS", "ADDRESS", "READY", "AGE"}, header) != "" {
		t.Errorf("columns: %v", header)
	}
}

// TestUnusableSelector: what the schema of a CRD cannot check stands in the status.
func TestUnusableSelector(t *testing.T) {
	w := enter(t)
	c := &v1alpha1.Connector{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace("crd").Name, Name: "registry"},
		Spec: v1alpha1.ConnectorSpec{ConnectorClassName: "oci", Address: "https://registry.invalid", Access: []v1alpha1.AccessRule{{
			Namespaces: v1alpha1.AccessNamespaces{From: v1alpha1.NamespacesFromSelector, Selector: &metav1.LabelSelector{
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: "Like", Values: []string{"a"}}},
			}},
		}}},
	}
	w.ok(w.client.Create(w.ctx, c))
	w.ok(eventually(w.ctx, "the condition", func(ctx context.Context) error {
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(c), c); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Reason != v1alpha1.ReasonSpecUnusable || !strings.Contains(ready.Message, "`spec.access[0]`") || !strings.Contains(ready.Message, "Like") {
			return fmt.Errorf("it is not there: %v", ready)
		}
		return nil
	}))
}
