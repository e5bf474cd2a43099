// Package config reads the configuration file and knows what holds without one.
//
// The file is a Kubernetes-style object, read strictly: a field that is not
// known, or that is given twice, is an error, so that a slip of the pen is
// never a silent default. It is pure: bytes in, a Configuration out.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"regexp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/egress"
)

// proxyAddress is that of the forward proxy that comes with Berth. It leaves the
// cluster's domain to the resolver of Pods.
const proxyAddress = v1alpha1.ProxyService + "." + v1alpha1.SystemNamespace + ".svc:3128"

// MaxSize is the most bytes that a configuration file has.
const MaxSize = 1 << 20

// Default returns what holds where the file says nothing.
func Default() v1alpha1.Configuration {
	return v1alpha1.Configuration{
		TypeMeta:          metav1.TypeMeta{APIVersion: v1alpha1.Group + "/" + v1alpha1.Version, Kind: v1alpha1.ConfigurationKind},
		ClusterDomain:     v1alpha1.ClusterDomain,
		TrustedNamespaces: []string{v1alpha1.SystemNamespace},
		SafeOwners:        safeOwners(),
		Pipelines:         pipelines(),
		LeftAlone: []v1alpha1.NodeClass{
			{Name: "virtual-kubelet", NodeSelector: map[string]string{"type": "virtual-kubelet"}},
			{Name: "fargate", Labels: map[string]string{"eks.amazonaws.com/fargate-profile": ""}},
		},
		Proxy: v1alpha1.ProxyConfiguration{Address: proxyAddress, ClusterCIDRs: []string{}, NoProxy: []string{}, Parent: v1alpha1.ParentProxy{NoProxy: []string{}}, Egress: v1alpha1.EgressConfiguration{
			EgressPolicy: v1alpha1.EgressPolicy{Policy: string(egress.Open), Allow: []string{}, Deny: []string{}},
			Namespaces:   []v1alpha1.NamespaceEgress{},
		}},
		Files: v1alpha1.FilesConfiguration{
			Enabled:   true,
			MountPath: v1alpha1.DefaultMountPath,
			CAVariables: []string{
				"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
				"NODE_EXTRA_CA_CERTS", "AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO", "DENO_CERT",
				"PIP_CERT", "NPM_CONFIG_CAFILE", // of their own files of configuration, which count for more than the others
			},
			JavaTrustStore: true,
			Variables:      variables(),
		},
	}
}

// variables are those by which tools find the files of the configurations that come with Berth.
func variables() []v1alpha1.FileVariable {
	one := func(configuration, name, value string) v1alpha1.FileVariable {
		return v1alpha1.FileVariable{Configuration: configuration, Name: name, Value: value}
	}
	return []v1alpha1.FileVariable{
		one("registry-config", "DOCKER_CONFIG", v1alpha1.FilesFolder),
		one("registry-config", "REGISTRY_AUTH_FILE", v1alpha1.FilesFolder+"/config.json"),
		one("buildkitd", "BUILDKITD_FLAGS", "--config="+v1alpha1.FilesFolder+"/buildkitd.toml"), // of buildctl-daemonless.sh
		one("containers", "CONTAINERS_REGISTRIES_CONF", v1alpha1.FilesFolder+"/registries.conf"),
		one("helm", "HELM_REGISTRY_CONFIG", v1alpha1.FilesFolder+"/helm-registry.json"),
		one("npm", "NPM_CONFIG_USERCONFIG", v1alpha1.FilesFolder+"/npmrc"),
		one("pip", "PIP_CONFIG_FILE", v1alpha1.FilesFolder+"/pip.conf"),
	}
}

// safeOwners are controllers that do not compare their Pods with their own spec.
func safeOwners() []v1alpha1.OwnerKind {
	return []v1alpha1.OwnerKind{
		{Kind: "ReplicationController"},
		{Group: "apps", Kind: "ReplicaSet"},
		{Group: "apps", Kind: "StatefulSet"},
		{Group: "apps", Kind: "DaemonSet"},
		{Group: "batch", Kind: "Job"},
		{Group: "tekton.dev", Kind: "TaskRun"},
		{Group: "tekton.dev", Kind: "PipelineRun"},
		{Group: "argoproj.io", Kind: "Workflow"},
		{Group: "actions.github.com", Kind: "EphemeralRunner"},
		{Group: "actions.summerwind.dev", Kind: "Runner"},
	}
}

// pipelines are known tools by a label that all Pods of their steps carry.
func pipelines() []v1alpha1.Pipeline {
	one := func(name, label, value string) v1alpha1.Pipeline {
		return v1alpha1.Pipeline{Name: name, Labels: map[string]string{label: value}}
	}
	return []v1alpha1.Pipeline{
		one("tekton", "tekton.dev/taskRun", ""),
		one("argo-workflows", "workflows.argoproj.io/workflow", ""),
		one("gitlab-runner", "job.runner.gitlab.com/pod", ""),
		one("jenkins", "jenkins/label", ""),
		one("github-arc", "actions-ephemeral-runner", "True"),
		one("github-arc-legacy", "actions-runner", ""),
		one("drone", "io.drone", ""),
		one("woodpecker", "woodpecker-ci.org/step", ""),
		one("buildkite", "buildkite.com/job-uuid", ""),
	}
}

// Parse reads a configuration file over the defaults. Its error names every field that is wrong.
func Parse(file []byte) (v1alpha1.Configuration, error) {
	if len(file) > MaxSize {
		return v1alpha1.Configuration{}, fmt.Errorf("the configuration has %d bytes, and may have %d", len(file), MaxSize)
	}
	var given v1alpha1.Configuration
	if err := yaml.UnmarshalStrict(file, &given); err != nil {
		return v1alpha1.Configuration{}, fmt.Errorf("read the configuration: %w", err)
	}
	if want := Default().TypeMeta; given.TypeMeta != want {
		return v1alpha1.Configuration{}, fmt.Errorf("the configuration must begin with `apiVersion: %s` and `kind: %s`", want.APIVersion, want.Kind)
	}
	c, err := overDefaults(file)
	if err != nil {
		return v1alpha1.Configuration{}, fmt.Errorf("read the configuration: %w", err)
	}
	return c, validate(&c)
}

// overDefaults joins the file and the defaults as objects, so that what the file
// does not say is not taken for empty, and nothing of a default list shows
// through one that is given.
func overDefaults(file []byte) (c v1alpha1.Configuration, err error) {
	defaults, err := yaml.Marshal(Default())
	if err != nil {
		return c, err
	}
	var under, over map[string]any
	if err := errors.Join(yaml.Unmarshal(defaults, &under), yaml.Unmarshal(file, &over)); err != nil {
		return c, err
	}
	merge(under, over)
	joined, err := yaml.Marshal(under)
	if err != nil {
		return c, err
	}
	return c, yaml.Unmarshal(joined, &c)
}

func merge(under, over map[string]any) {
	for key, value := range over {
		inner, ok := value.(map[string]any)
		below, both := under[key].(map[string]any)
		if ok && both {
			merge(below, inner)
			continue
		}
		if value != nil {
			under[key] = value
		}
	}
}

// Print writes a configuration as a file that Parse reads.
func Print(c v1alpha1.Configuration) ([]byte, error) {
	return yaml.Marshal(c)
}

// problems are what is wrong with a configuration.
type problems []error

func (p *problems) addf(field, format string, args ...any) {
	*p = append(*p, fmt.Errorf("`%s`: %s", field, fmt.Sprintf(format, args...)))
}

func validate(c *v1alpha1.Configuration) error {
	var wrong problems
	wrong.names(c)
	wrong.tables(c)
	wrong.proxy(&c.Proxy)
	wrong.egress(&c.Proxy.Egress)
	wrong.files(&c.Files)
	return errors.Join(wrong...)
}

func (p *problems) names(c *v1alpha1.Configuration) {
	if len(validation.IsDNS1123Subdomain(c.ClusterDomain)) > 0 {
		p.addf("clusterDomain", "'%s' must be a DNS name, such as 'cluster.local'", c.ClusterDomain)
	}
	for i, name := range c.TrustedNamespaces {
		if len(validation.IsDNS1123Label(name)) > 0 {
			p.addf(fmt.Sprintf("trustedNamespaces[%d]", i), "'%s' is not the name of a namespace", name)
		}
	}
}

func (p *problems) tables(c *v1alpha1.Configuration) {
	for i, o := range c.SafeOwners {
		if o.Kind == "" {
			p.addf(fmt.Sprintf("safeOwners[%d].kind", i), "must be given")
		}
	}
	for i, pipeline := range c.Pipelines {
		if len(pipeline.Labels) == 0 {
			p.addf(fmt.Sprintf("pipelines[%d].labels", i), "must have an entry: without one every Pod would be of a pipeline")
		}
	}
	for i, n := range c.LeftAlone {
		if len(n.NodeSelector)+len(n.Labels) == 0 {
			p.addf(fmt.Sprintf("leftAlone[%d]", i), "must have a `nodeSelector` or `labels`: without them every Pod would be left alone")
		}
	}
}

var mountPaths = regexp.MustCompile(v1alpha1.MountPathPattern)

func (p *problems) files(c *v1alpha1.FilesConfiguration) {
	if !mountPaths.MatchString(c.MountPath) || path.Clean(c.MountPath) != c.MountPath {
		p.addf("files.mountPath", "'%s' must be an absolute path of letters, digits, '.', '_' and '-', such as '%s'", c.MountPath, v1alpha1.DefaultMountPath)
	}
	for i, v := range c.Variables {
		field := fmt.Sprintf("files.variables[%d]", i)
		if v.Configuration == "" {
			p.addf(field+".configuration", "must be given")
		}
		for _, problem := range validation.IsEnvVarName(v.Name) {
			p.addf(field+".name", "'%s': %s", v.Name, problem)
		}
	}
}

func (p *problems) proxy(c *v1alpha1.ProxyConfiguration) {
	if c.Address != "" {
		if _, _, err := net.SplitHostPort(c.Address); err != nil {
			p.addf("proxy.address", "'%s' must be 'host:port'", c.Address)
		}
	}
	for i, entry := range c.ClusterCIDRs {
		if prefix, err := netip.ParsePrefix(entry); err != nil || prefix != prefix.Masked() || prefix.Bits() == 0 {
			p.addf(fmt.Sprintf("proxy.clusterCIDRs[%d]", i), "'%s' must be a CIDR such as '10.96.0.0/12', with no bit set behind its prefix", entry)
		}
	}
	if _, err := Parent(c, "", nil); err != nil {
		p.addf("proxy.parent.url", "%v", err)
	}
	p.noProxy("proxy.parent.noProxy", c.Parent.NoProxy)
	p.noProxy("proxy.noProxy", c.NoProxy)
}

func (p *problems) noProxy(field string, list []string) {
	for i, entry := range list {
		if entry == "" || strings.ContainsAny(entry, ", \t\n") {
			p.addf(fmt.Sprintf("%s[%d]", field, i), "'%s' must be one host, domain or CIDR", entry)
		}
	}
}
