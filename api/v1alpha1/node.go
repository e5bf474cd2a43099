package v1alpha1

const (
	// TaintNotReady is the startup taint of a node on which pulls through Connectors do not work yet. Who registers
	// the node sets it; `berth node` takes it off, once, when all is ready there.
	TaintNotReady = Group + "/not-ready"
	// AnnotationNode is written by `berth node` on its Node: a NodeReport, in JSON.
	AnnotationNode = Group + "/node"
	// MaxNodeReport is the most bytes that AnnotationNode has.
	MaxNodeReport = 4096
)

// NodeReport says whether pulls through Connectors work on a node, and if not,
// why. It changes when that does, and not with every Connector.
type NodeReport struct {
	// Ready reports whether they do.
	Ready bool `json:"ready"`
	// Reason is one of the NodeReason constants.
	Reason string `json:"reason"`
	// Message says it for people, and what to do.
	Message string `json:"message,omitempty"`
	// Runtime is the node's container runtime, as kubelet names it.
	Runtime string `json:"runtime,omitempty"`
	// Path is the folder of the node where files are written for the runtime.
	Path string `json:"path,omitempty"`
}

// Reasons of a NodeReport.
const (
	// NodeReasonReady: the runtime finds the proxy for every Connector, and kubelet has the CSI driver.
	NodeReasonReady = "Ready"
	// NodeReasonProxyPending: the proxy's Service or its certificate authority is not there yet.
	NodeReasonProxyPending = "ProxyPending"
	// NodeReasonDriverPending: kubelet has not taken the CSI driver yet.
	NodeReasonDriverPending = "DriverPending"
	// NodeReasonRuntimeUnsupported: the container runtime is none that Berth knows.
	NodeReasonRuntimeUnsupported = "RuntimeUnsupported"
	// NodeReasonConfigInvalid: the runtime's configuration cannot be read.
	NodeReasonConfigInvalid = "ConfigInvalid"
	// NodeReasonConfigPathMissing: the runtime's configuration has no config_path, so that it reads no hosts.toml.
	NodeReasonConfigPathMissing = "ConfigPathMissing"
	// NodeReasonConfigPathSeveral: it names several folders where the runtime takes them for the name of one.
	NodeReasonConfigPathSeveral = "ConfigPathSeveral"
	// NodeReasonFolderUnavailable: the folder cannot be opened from where `berth node` runs.
	NodeReasonFolderUnavailable = "FolderUnavailable"
	// NodeReasonForeignFiles: where files should be there are such that Berth did not write.
	NodeReasonForeignFiles = "ForeignFiles"
	// NodeReasonPortUnsupported: the runtime reaches names only on port 443, and the proxy's Service has another.
	NodeReasonPortUnsupported = "PortUnsupported"
	// NodeReasonWriteFailed: files could not be written, for instance because the disk is full.
	NodeReasonWriteFailed = "WriteFailed"
)
