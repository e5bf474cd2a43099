package v1alpha1

// The names by which Berth is known in a cluster. Each stands here and nowhere
// else.
const (
	// Group is the API group of Berth's kinds, and the prefix of its labels and annotations.
	Group = "connectors.berth.dev"
	// Version is the API version of the kinds in this package.
	Version = "v1alpha1"
	// SystemNamespace is where Berth itself runs and keeps its private keys.
	SystemNamespace = "berth-system"
	// ClusterDomain is the DNS suffix of cluster Services where nothing else is configured.
	ClusterDomain = "cluster.local"
	// InterceptionNamespace holds the certificate authorities of Connectors, a Secret for each. They have a namespace
	// of their own so that the proxies may read all of these, and nothing else of Berth's.
	InterceptionNamespace = "berth-interception"
	// CSIDriver is the name of the CSI driver.
	CSIDriver = "csi." + Group
	// FieldManager owns the fields that Berth writes, so that drift can be told from a user's edit.
	FieldManager = "berth"
)

// Objects that Berth keeps in its own namespace, SystemNamespace.
const (
	// ProxyService is the Service in front of `berth proxy`; the Service of each Connector leads to it.
	ProxyService = "berth-proxy"
	// ProxyPort is the name of the port of ProxyService that serves registries over TLS.
	ProxyPort = "registry"
	// WebhookService is the Service through which the API server reaches the webhook.
	WebhookService = "berth-webhook"
	// WebhookConfiguration is the name of the MutatingWebhookConfiguration, which is cluster-scoped.
	WebhookConfiguration = "berth"
	// TokenKeys names two objects: the Secret with the keys that sign berth
	// tokens, which only the controller reads, and the ConfigMap with their
	// public halves, which the proxies read.
	TokenKeys = "berth-token-keys"
	// TokenKeysFile is the key, in both, of their JWK Set.
	TokenKeysFile = "jwks.json"
	// ProxyServing names the Secret with the authorities that sign the proxy's serving certificates.
	ProxyServing = "berth-proxy-serving"
	// WebhookServing names the Secret with the authorities that sign the webhook's serving certificates.
	WebhookServing = "berth-webhook-serving"
	// EndpointsRole names the Role, here and in the namespace 'default', that lets Berth read where the API server and
	// Berth itself run.
	EndpointsRole = "berth-endpoints"
	// ProxyCA names the ConfigMap whose `ca.crt` verifies the proxy's serving certificates.
	ProxyCA = "berth-proxy-ca"
	// CACertKey is the key of every Secret or ConfigMap entry that holds PEM certificates to trust.
	CACertKey = "ca.crt"
)

// Objects that Berth keeps in the namespaces of its users.
const (
	// PullSecret is the kubernetes.io/dockerconfigjson Secret, in every
	// opted-in namespace, with a berth token for kubelet's pulls.
	PullSecret = "berth-pull"
	// ProxySecret is the Secret, in every opted-in namespace, with a berth token
	// for the forward proxy under the key ProxySecretToken.
	ProxySecret = "berth-proxy"
	// ProxySecretToken is the key of the token in ProxySecret.
	ProxySecretToken = "token"
	// ServicePrefix, before a Connector's name, is the name of its Service.
	ServicePrefix = "c-"
	// CredentialReaderPrefix, before a Connector's name, names the Role and
	// RoleBinding that let Berth read the Secrets that the Connector names.
	CredentialReaderPrefix = "berth-reader-"
)

// Labels and annotations, with the values that they take.
const (
	// LabelInject opts a Namespace in, and a single Pod in or out.
	LabelInject = Group + "/inject"
	// InjectEnabled is the value of LabelInject that opts in.
	InjectEnabled = "enabled"
	// InjectDisabled is the value of LabelInject that opts a Pod out.
	InjectDisabled = "disabled"

	// AnnotationConnector, on a Pod or its Namespace, names the Connectors to
	// use, in order: `NAMESPACE/NAME`, or `NAME` for one of the same namespace,
	// separated by commas.
	AnnotationConnector = Group + "/connector"
	// AnnotationImages, on a Pod or its Namespace, is ImagesRewrite or ImagesKeep.
	AnnotationImages = Group + "/images"
	// ImagesRewrite is the default: images that a Connector serves are rewritten.
	ImagesRewrite = "rewrite"
	// ImagesKeep leaves every image as the user wrote it.
	ImagesKeep = "keep"
	// AnnotationProxy, on a Pod or its Namespace, is ProxyPipelines, ProxyAlways or ProxyNever.
	AnnotationProxy = Group + "/proxy"
	// ProxyPipelines is the default: Pods that a pipeline tool made are given the proxy.
	ProxyPipelines = "pipelines"
	// ProxyAlways gives every Pod the proxy.
	ProxyAlways = "always"
	// ProxyNever gives no Pod the proxy.
	ProxyNever = "never"
	// AnnotationConfigurations, on a Pod or its Namespace, names configurations of
	// the Connectors' classes whose files are mounted, separated by commas.
	AnnotationConfigurations = Group + "/configurations"
	// AnnotationOriginalImages is written on a rewritten Pod: a JSON object from
	// field path to the image that stood there.
	AnnotationOriginalImages = Group + "/original-images"
	// AnnotationExpires is written on the Secrets that Berth makes: when the token inside expires, RFC 3339.
	AnnotationExpires = Group + "/expires"
	// AnnotationRenew is written beside it: when Berth renews the token, RFC 3339.
	AnnotationRenew = Group + "/renew"
	// AnnotationTokenGeneration, on a Namespace, is in the tokens that Berth makes for it: with any other value, those
	// from before are worth nothing.
	AnnotationTokenGeneration = Group + "/token-generation"
	// LabelConnectorUID is written on the Secret of a Connector's certificate authority: a deleted namesake's is not used.
	LabelConnectorUID = Group + "/connector-uid"
	// LabelManagedBy is the Kubernetes recommended label; Berth sets it to FieldManager on what it makes.
	LabelManagedBy = "app.kubernetes.io/managed-by"
)
