package v1alpha1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConfigurationKind is the `kind` of a configuration file.
const ConfigurationKind = "Configuration"

// Configuration is the file by which an administrator tells Berth about the
// cluster. It is read from a file, not kept in the API; `berth controller
// --print-defaults` prints one with every field. A list that is given replaces
// the default one.
type Configuration struct {
	metav1.TypeMeta `json:",inline"`

	// clusterDomain is the DNS suffix of the cluster's Services.
	ClusterDomain string `json:"clusterDomain"`

	// trustedNamespaces are those whose Connectors every Pod may be given without naming them.
	TrustedNamespaces []string `json:"trustedNamespaces"`

	// safeOwners are the kinds of controllers whose Pods are changed. Controllers of other kinds may compare
	// their Pods with what they asked for and make them anew for ever, so their Pods are left alone unless the
	// Pod's own label opts in. Pods without a controller are changed.
	SafeOwners []OwnerKind `json:"safeOwners"`

	// pipelines are the tools whose Pods get the proxy without asking for it.
	Pipelines []Pipeline `json:"pipelines"`

	// leftAlone are the kinds of nodes on which Berth has no part, such as virtual kubelets: Pods that ask for
	// such a node are left alone.
	LeftAlone []NodeClass `json:"leftAlone"`

	// proxy is what Pods are told of the forward proxy.
	Proxy ProxyConfiguration `json:"proxy"`

	// files is what Pods are told of the files that the CSI driver mounts.
	Files FilesConfiguration `json:"files"`
}

// OwnerKind is a kind of controller.
type OwnerKind struct {
	// group of the API, without the version; empty is the core group.
	Group string `json:"group"`
	// kind within it.
	Kind string `json:"kind"`
}

// Pipeline is a tool that makes Pods for the steps of a pipeline.
type Pipeline struct {
	// name of the tool, for reports.
	Name string `json:"name"`
	// labels that its Pods carry, all of them; an empty value stands for any.
	Labels map[string]string `json:"labels"`
}

// NodeClass is a kind of nodes.
type NodeClass struct {
	// name of the class, for reports.
	Name string `json:"name"`
	// nodeSelector entries by which a Pod asks for such a node, all of them; an empty value stands for any.
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// labels of Pods that are put onto such a node, all of them; an empty value stands for any.
	Labels map[string]string `json:"labels,omitempty"`
}

// ProxyConfiguration is what Pods are told of the forward proxy.
type ProxyConfiguration struct {
	// address is the forward proxy's `host:port` as Pods reach it. Empty: there is none, and no Pod is given one.
	Address string `json:"address"`
	// clusterCIDRs are the networks of the cluster's Services and Pods: they are reached without the proxy, by clients
	// that understand CIDRs, and never through it.
	ClusterCIDRs []string `json:"clusterCIDRs"`
	// noProxy lists what else is reached without the proxy, beside localhost, the cluster's Services and the API
	// server: names and CIDRs. The CIDRs are never reached through it either.
	NoProxy []string `json:"noProxy"`
	// parent is the proxy by which Berth itself reaches what is outside of the cluster, where there is no other way.
	Parent ParentProxy `json:"parent"`
	// egress says where Pods may go through the proxy.
	Egress EgressConfiguration `json:"egress"`
}

// ParentProxy is a proxy of the organisation's. Its credential, if it wants one, is in a file that `--parent-credential` names.
type ParentProxy struct {
	// url is `http://HOST:PORT` or `https://HOST:PORT`, without a user. Empty: there is none.
	URL string `json:"url"`
	// noProxy lists what Berth reaches without it, as NO_PROXY does, beside what Pods reach without Berth.
	NoProxy []string `json:"noProxy"`
}

// Unproxied lists all that is reached without the proxy.
func (c *ProxyConfiguration) Unproxied() []string { return slices.Concat(c.ClusterCIDRs, c.NoProxy) }

// EgressConfiguration says where Pods may go through the forward proxy, beside
// the hosts of the Connectors that they may use. The CIDRs of `clusterCIDRs` and `noProxy` are
// never reached through it, nor are loopback, link-local and metadata addresses.
type EgressConfiguration struct {
	EgressPolicy `json:",inline"`

	// namespaces are those with another policy; the first entry that names one counts.
	Namespaces []NamespaceEgress `json:"namespaces"`
}

// EgressPolicy says where Pods may go.
type EgressPolicy struct {
	// policy is 'open' (public and private addresses), 'public' (public ones alone) or 'connectors' (nowhere else).
	Policy string `json:"policy"`
	// allow lists names, '*.DOMAIN', addresses and CIDRs that are allowed under every policy.
	Allow []string `json:"allow"`
	// deny lists those that are refused, also where `allow` lists them.
	Deny []string `json:"deny"`
}

// NamespaceEgress is the policy of some namespaces.
type NamespaceEgress struct {
	// names of the namespaces.
	Names []string `json:"names"`

	EgressPolicy `json:",inline"`
}

// FilesConfiguration is what Pods are told of the files that the CSI driver mounts.
type FilesConfiguration struct {
	// enabled says that the CSI driver is installed. Where it is not, no Pod is given its volume.
	Enabled bool `json:"enabled"`
	// mountPath is the folder of the volume in every container. It matches MountPathPattern.
	MountPath string `json:"mountPath"`
	// caVariables are environment variables that name a file of certificate authorities to trust.
	CAVariables []string `json:"caVariables"`
	// javaTrustStore says whether JAVA_TOOL_OPTIONS names the trust store.
	JavaTrustStore bool `json:"javaTrustStore"`
	// variables are those by which tools find the files of a configuration that a Pod asks for.
	Variables []FileVariable `json:"variables"`
}

// FileVariable is an environment variable by which a tool finds the files of a configuration.
type FileVariable struct {
	// configuration that has the files.
	Configuration string `json:"configuration"`
	// name of the variable.
	Name string `json:"name"`
	// value of the variable, in which '{folder}' stands for the folder of the volume.
	Value string `json:"value"`
}

// FilesFolder stands for the folder of the volume in the value of a FileVariable.
const FilesFolder = "{folder}"
