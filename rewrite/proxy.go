package rewrite

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api/v1alpha1"
)

// The variables of the proxy. Clients disagree on the case, so both are set.
const (
	envToken   = "BERTH_TOKEN"
	envHTTP    = "HTTP_PROXY"
	envHTTPS   = "HTTPS_PROXY"
	envNoProxy = "NO_PROXY"
	// envNode has Node.js, from 22.21 and 24 on, heed the others, which it does not by itself.
	envNode = "NODE_USE_ENV_PROXY"

	// proxyUser stands in the proxy's URL where no annotation names Connectors.
	proxyUser = "berth"
)

// addProxy gives a container the forward proxy. The token comes from a Secret,
// by a variable of its own that the URL refers to: no token stands in a Pod,
// or in an audit log of patches. It reports whether the container has it: who
// has other proxies knows himself whom to trust.
func addProxy(c *corev1.Container, path string, s *settings, policy *Policy, report *Report) bool {
	if taken := lookup(c, envToken); taken != nil && !ours(taken) {
		report.skip(Skip{
			Field: path + ".env", Reason: ReasonVariableTaken,
			Detail: "'" + envToken + "'; rename it, so that the container can be given the proxy",
		})
		return false
	}
	own := slices.DeleteFunc([]string{envHTTP, envHTTPS}, func(name string) bool { return !ownProxy(c, name) })
	if len(own) > 0 {
		report.skip(Skip{Field: path + ".env", Reason: ReasonVariableTaken, Detail: "the container keeps its own '" + strings.Join(own, "' and '") + "'"})
	}
	if len(own) == 2 {
		return false
	}
	before := len(c.Env)
	if lookup(c, envToken) == nil {
		c.Env = append(c.Env, corev1.EnvVar{Name: envToken, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: v1alpha1.ProxySecret}, Key: v1alpha1.ProxySecretToken,
		}}})
	}
	url := "http://" + s.proxyUser() + ":$(" + envToken + ")@" + policy.Proxy.Address
	for _, name := range []string{envHTTP, envHTTPS} {
		bothCases(c, name, url)
	}
	noProxy(c, path, policy, report)
	setDefault(c, envNode, "1")
	if len(c.Env) > before {
		report.Changes = append(report.Changes, Change{Field: path + ".env", Reason: ReasonProxyAdded, To: policy.Proxy.Address})
	}
	return true
}

func ours(v *corev1.EnvVar) bool {
	return v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil && v.ValueFrom.SecretKeyRef.Name == v1alpha1.ProxySecret
}

// ownProxy reports whether the user set a variable of the proxy, in either case.
func ownProxy(c *corev1.Container, name string) bool {
	for _, spelling := range []string{name, strings.ToLower(name)} {
		if v := lookup(c, spelling); v != nil && !strings.Contains(v.Value, "$("+envToken+")") {
			return true
		}
	}
	return false
}

// proxyUser names, to the proxy, the Connectors that the annotation names.
func (s *settings) proxyUser() string {
	if !s.named {
		return proxyUser
	}
	return strings.ReplaceAll(strings.Join(s.connectors, ","), "/", "%2F")
}

// bothCases sets a variable in upper and in lower case, unless the user set either.
func bothCases(c *corev1.Container, name, value string) {
	lower := strings.ToLower(name)
	if lookup(c, name) != nil || lookup(c, lower) != nil {
		return
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value}, corev1.EnvVar{Name: lower, Value: value})
}

// noProxy lists what is reached without the proxy, after what the user lists.
func noProxy(c *corev1.Container, path string, policy *Policy, report *Report) {
	ours := slices.Concat([]string{
		"localhost", "127.0.0.1", "::1", ".svc", "." + policy.ClusterDomain, "$(KUBERNETES_SERVICE_HOST)",
	}, policy.Proxy.Unproxied())
	for _, name := range []string{envNoProxy, strings.ToLower(envNoProxy)} {
		have := lookup(c, name)
		switch {
		case have == nil:
			c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: join(inherited(c, name), ours)})
		case have.ValueFrom != nil:
			report.skip(Skip{
				Field: path + ".env", Reason: ReasonVariableTaken,
				Detail: "'" + name + "' comes from elsewhere and cannot be added to; see to it that it lists the cluster's Services",
			})
		default:
			have.Value = join(have.Value, ours)
		}
	}
}

// inherited is what the user lists in the other case.
func inherited(c *corev1.Container, name string) string {
	for _, other := range []string{envNoProxy, strings.ToLower(envNoProxy)} {
		switch v := lookup(c, other); {
		case other == name || v == nil:
		case v.ValueFrom != nil:
			return "$(" + other + ")"
		default:
			return v.Value
		}
	}
	return ""
}

// join appends the entries that a list has not.
func join(list string, entries []string) string {
	var all []string
	if list != "" {
		all = strings.Split(list, ",")
	}
	for _, entry := range entries {
		if !slices.ContainsFunc(all, func(have string) bool { return strings.TrimSpace(have) == entry }) {
			all = append(all, entry)
		}
	}
	return strings.Join(all, ",")
}
