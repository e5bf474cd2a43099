package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
)

// The files that every CSI volume has, whatever else its Pod asked for.
const (
	// FileEnv holds the proxy variables, `NAME=VALUE` on each line.
	FileEnv = ".env"
	// FileHTTPProxy is the URL of the forward proxy with the Pod's token; empty where there is none.
	FileHTTPProxy = "http.proxy"
	// FileHTTPSProxy is the same, for the variable HTTPS_PROXY.
	FileHTTPSProxy = "https.proxy"
	// FileCA holds the authorities of the Connectors alone, in PEM.
	FileCA = "ca.crt"
	// FileCAOfProxy is FileCA under the name that other connectors' volumes give it.
	FileCAOfProxy = "context.proxy.caCert"
	// FileBundle holds public authorities and the Connectors', in PEM.
	FileBundle = "ca-bundle.crt"
	// FileTrustStore is FileBundle for Java: PKCS #12 without a password.
	FileTrustStore = "truststore.p12"
	// FileWget names FileBundle to wget, which heeds no variable for that, by WGETRC.
	FileWget = "wgetrc"
	// FileToken is the Pod's token.
	FileToken = "context.token"
)

// The attributes of a CSI volume.
const (
	// VolumeConnectors names Connectors, `NAMESPACE/NAME,NAME`. Left out: those that the Pod may be given without naming them.
	VolumeConnectors = "connectors"
	// VolumeConfigurations names configurations of the Connectors' classes, separated by commas.
	VolumeConfigurations = "configurations"
	// VolumeMountPath is the folder in which containers find the volume, for files that name each other. Left out: DefaultMountPath.
	VolumeMountPath = "mountPath"

	// DefaultMountPath is where the webhook mounts the volume.
	DefaultMountPath = "/run/" + Group
	// MountPathPattern is what a folder of the volume matches: a path that needs no quotes anywhere.
	MountPathPattern = `^(/[A-Za-z0-9._-]+)+$`
)

// TokenAudience is the audience of the ServiceAccount tokens that volumes are made for.
const TokenAudience = Group

// FilesPath is where the proxy answers for the files of a volume. A request is
// a GET with the Pod's ServiceAccount token as a Bearer token, the volume's
// attributes as the query, and the generation
// that the volume has as `If-None-Match`. The answer is Files, or a FilesError;
// 304 says that nothing changed.
const FilesPath = "/configuration/v1/files"

// FilesMediaType is that of the answers, CBOR (RFC 8949): contents are bytes, and
// kubelet asks for thousands of them.
const FilesMediaType = "application/cbor"

// FilesHave is the header by which a node says which contents it has from other
// volumes, so that they are not sent again: their digests, separated by commas.
const FilesHave = "Berth-Have"

// FilesDigest is how a node and the proxy name a content.
func FilesDigest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// Files is what stands in a volume.
//
// +kubebuilder:object:generate=false
type Files struct {
	// Generation changes whenever a file does. It is a name of letters and digits.
	Generation string `json:"generation"`
	// Files are the contents by file name.
	Files map[string][]byte `json:"files"`
	// Same are further files, whose contents the node has: their digests by file name.
	Same map[string]string `json:"same,omitempty"`
}

// FilesError says why there are no files.
//
// +kubebuilder:object:generate=false
type FilesError struct {
	// Message is for the Pod's events: what is wrong, and what to do.
	Message string `json:"message"`
}
