package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Connector is one registry, the credential that signs in to it, and who may
// use it. Workloads that use a Connector never see the credential.
//
// Its name is a DNS-1035 label of at most 61 characters, because its Service is
// named `c-NAME`.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=conn,categories=berth
// +kubebuilder:printcolumn:name="Class",type=string,JSONPath=`.spec.connectorClassName`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 61 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be a DNS-1035 label of at most 61 characters (lower-case letters, digits and '-', starting with a letter): the Connector's Service is named 'c-NAME'"
type Connector struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec ConnectorSpec `json:"spec"`
	// +optional
	Status ConnectorStatus `json:"status,omitempty"`
}

// ConnectorList is a list of Connectors.
//
// +kubebuilder:object:root=true
type ConnectorList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Connector `json:"items"`
}

// ConnectorSpec is what the owner of a registry credential writes.
type ConnectorSpec struct {
	// connectorClassName names the ConnectorClass of the server: 'harbor', 'oci', or one of the administrator's.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ConnectorClassName string `json:"connectorClassName"`

	// address of the registry, `scheme://host[:port][/path]`, as image names spell it. It may not change:
	// a credential never follows to another host. Make a new Connector instead.
	//
	// +required
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="`address` may not change, so that a credential never goes to another host: make a new Connector"
	// +kubebuilder:validation:XValidation:rule="self.matches('^https?://([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*|[[][0-9a-f:.]+[]])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?(/[A-Za-z0-9._~-]+)*$') && !self.matches('/[.]{1,2}(/|$)')",message="`address` must be scheme://host[:port][/path] with scheme 'https' or 'http', the host in lower case, and no user, query, fragment or trailing slash, for example 'https://harbor.example.com'"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://(([-a-z0-9]+[.])*localhost([:/]|$)|(127|0)([.][0-9]+){1,3}([:/]|$)|0([:/]|$)|169[.]254([.][0-9]+){2}([:/]|$)|[[](::1?|fe[89ab][0-9a-f]:[0-9a-f:]*|::ffff:(127|0|169[.]254)[.][0-9.]+)[]])')",message="`address` may not be loopback or link-local: from the proxy that would be the proxy itself or its node"
	Address string `json:"address"`

	// addressExtensions are more hosts of the same service, which get the same credential: a token service on
	// another host, a notary.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	AddressExtensions []AddressExtension `json:"addressExtensions,omitempty"`

	// auth says how to sign in. Left out: the registry needs no authentication.
	//
	// +optional
	Auth *ConnectorAuth `json:"auth,omitempty"`

	// caCertSecretRef names a Secret of this namespace whose key `ca.crt` holds the PEM certificates that sign
	// the registry's certificate, where no public authority does.
	//
	// +optional
	CACertSecretRef *SecretReference `json:"caCertSecretRef,omitempty"`

	// access says which namespaces may use this Connector, for which repositories and actions. A namespace
	// that no rule lists is refused. Empty: Pods of the Connector's own namespace, pull and push.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Access []AccessRule `json:"access,omitempty"`
}

// AddressExtension is one more host of a Connector's service.
type AddressExtension struct {
	// name tells extensions apart.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// value is its address, `scheme://host[:port]`, with scheme 'https', or 'http' where `address` has that too.
	//
	// +required
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^https?://([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*|[[][0-9a-f:.]+[]])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?$')",message="`value` must be scheme://host[:port] with scheme 'https' or 'http', the host in lower case, and nothing after it, for example 'https://auth.example.com'"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://(([-a-z0-9]+[.])*localhost([:/]|$)|(127|0)([.][0-9]+){1,3}([:/]|$)|0([:/]|$)|169[.]254([.][0-9]+){2}([:/]|$)|[[](::1?|fe[89ab][0-9a-f]:[0-9a-f:]*|::ffff:(127|0|169[.]254)[.][0-9.]+)[]])')",message="`value` may not be loopback or link-local: from the proxy that would be the proxy itself or its node"
	Value string `json:"value"`
}

// ConnectorAuth says how a Connector signs in to its registry.
type ConnectorAuth struct {
	// name of the way to sign in, one of those that the ConnectorClass lists, for example 'basicAuth'.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// secretRef names the Secret of this namespace with the credential; for 'basicAuth' its type is
	// kubernetes.io/basic-auth.
	//
	// +required
	SecretRef SecretReference `json:"secretRef"`
}

// AuthBasic is the name, in ConnectorAuth, of signing in with a user name and a password (RFC 7617).
const AuthBasic = "basicAuth"

// SecretReference names a Secret of the same namespace.
type SecretReference struct {
	// name of the Secret.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// AccessRule grants the namespaces that it selects some actions on some repositories.
type AccessRule struct {
	// namespaces that the rule is about. Left out: the Connector's own.
	//
	// +optional
	Namespaces AccessNamespaces `json:"namespaces,omitempty"`

	// repositories that the rule is about, as patterns: '*' stands for one path component or a part of it,
	// '**' for any number of components. Left out: all. The action 'api' is not about one repository, so only a
	// rule about all of them grants it.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=255
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9*]([a-z0-9._*-]*[a-z0-9*])?(/[a-z0-9*]([a-z0-9._*-]*[a-z0-9*])?)*$`
	Repositories []string `json:"repositories,omitempty"`

	// actions that the rule allows. Left out: pull.
	//
	// +optional
	// +listType=set
	Actions []Action `json:"actions,omitempty"`
}

// AccessNamespaces selects the namespaces of an AccessRule.
//
// +kubebuilder:validation:XValidation:rule="(has(self.from) && self.from == 'Selector') == has(self.selector)",message="`selector` must stand with `from: Selector`, and only with it"
type AccessNamespaces struct {
	// from is Same (the Connector's own namespace, the default), All, or Selector.
	//
	// +optional
	// +kubebuilder:default=Same
	From NamespacesFrom `json:"from,omitempty"`

	// selector matches the labels of Namespaces. Whoever may label a Namespace may match it;
	// `kubernetes.io/metadata.name` is the label that nobody can forge.
	//
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// NamespacesFrom says where the namespaces of an AccessRule come from.
//
// +kubebuilder:validation:Enum=Same;All;Selector
type NamespacesFrom string

// The values of NamespacesFrom.
const (
	// NamespacesFromSame is the Connector's own namespace.
	NamespacesFromSame NamespacesFrom = "Same"
	// NamespacesFromAll is every namespace.
	NamespacesFromAll NamespacesFrom = "All"
	// NamespacesFromSelector is the namespaces whose labels match the selector.
	NamespacesFromSelector NamespacesFrom = "Selector"
)

// Action is something that a workload does with a registry.
//
// +kubebuilder:validation:Enum=pull;push;delete;api
type Action string

// The values of Action.
const (
	// ActionPull reads manifests, blobs, tags and referrers.
	ActionPull Action = "pull"
	// ActionPush writes manifests and blobs.
	ActionPush Action = "push"
	// ActionDelete deletes manifests, tags and blobs.
	ActionDelete Action = "delete"
	// ActionAPI calls the paths of the server's own API that its ConnectorClass opens.
	ActionAPI Action = "api"
)

// ConnectorStatus is what Berth found out about a Connector.
type ConnectorStatus struct {
	// observedGeneration is the generation of the spec that the conditions are about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions of the Connector: ConnectorClassReady, SecretReady, CACertReady, LivenessReady, AuthReady,
	// ProxyReady, and Ready, which is their conjunction.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// proxy says how clients reach the registry through Berth.
	//
	// +optional
	Proxy ProxyStatus `json:"proxy,omitempty"`
}

// ProxyStatus says how clients reach a registry through Berth.
type ProxyStatus struct {
	// httpAddress is the connector's own address, in the place of the registry's.
	//
	// +optional
	HTTPAddress *ProxyAddress `json:"httpAddress,omitempty"`

	// interceptionCABundle holds the PEM certificates by which clients of the forward proxy verify the connector's
	// hosts. Their authority may sign for these hosts and the names below them, and for nothing else.
	//
	// +optional
	InterceptionCABundle string `json:"interceptionCABundle,omitempty"`
}

// ProxyAddress is an address and what verifies its certificate.
type ProxyAddress struct {
	// url of the Connector at the proxy.
	URL string `json:"url"`
	// caBundle holds the PEM certificates that sign the certificate of that address.
	//
	// +optional
	CABundle string `json:"caBundle,omitempty"`
}
