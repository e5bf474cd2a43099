package csi

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"berth.dev/berth/api/v1alpha1"
)

// What kubelet puts into a request.
const (
	kubeletPrefix = "csi.storage.k8s.io/"
	// keyEphemeral says that the volume stands in a Pod's spec.
	keyEphemeral = kubeletPrefix + "ephemeral"
	// keyTokens is the Pod's tokens by audience: in the volume's context, and from Kubernetes 1.36 on in its secrets.
	keyTokens = kubeletPrefix + "serviceAccount.tokens"
)

// publication is a request to publish, understood.
type publication struct {
	volume, target string
	// token is the Pod's.
	token string
	// group is the Pod's fsGroup; negative: none.
	group int
	// attributes are those that the user wrote.
	attributes url.Values
}

// mistake is what is wrong with a request, with the words for who can correct it.
type mistake struct {
	code codes.Code
	text string
}

// Error implements error.
func (m *mistake) Error() string { return m.text }

func wrong(format string, arguments ...any) error {
	return &mistake{codes.InvalidArgument, fmt.Sprintf(format, arguments...)}
}

// parse understands a request, or says what the user must write.
func parse(request *spec.NodePublishVolumeRequest) (*publication, error) {
	r := &publication{volume: request.GetVolumeId(), target: request.GetTargetPath(), group: -1}
	if err := checkNames(r.volume, r.target); err != nil {
		return nil, err
	}
	if err := checkKind(request); err != nil {
		return nil, err
	}
	var err error
	if r.attributes, err = attributesOf(request.GetVolumeContext()); err != nil {
		return nil, err
	}
	if r.token, err = tokenOf(request); err != nil {
		return nil, err
	}
	if group := request.GetVolumeCapability().GetMount().GetVolumeMountGroup(); group != "" {
		n, err := strconv.ParseUint(group, 10, 31)
		if err != nil {
			return nil, wrong("`volume_mount_group` must be the number of a group")
		}
		r.group = int(n)
	}
	return r, nil
}

func checkNames(volume, target string) error {
	switch {
	case volume == "":
		return wrong("the request must have a `volume_id`")
	case target == "":
		return wrong("the request must have a `target_path`")
	case !filepath.IsAbs(target) || filepath.Clean(target) != target:
		return wrong("`target_path` must be an absolute path without '.' and '..'")
	}
	return nil
}

// checkKind refuses all but read-only inline volumes of files.
func checkKind(request *spec.NodePublishVolumeRequest) error {
	switch capability := request.GetVolumeCapability(); {
	case capability == nil:
		return wrong("the request must have a `volume_capability`")
	case capability.GetBlock() != nil:
		return wrong("volumes of '%s' hold files: `volumeDevices` may not name one", v1alpha1.CSIDriver)
	case request.GetVolumeContext()[keyEphemeral] != "true":
		return wrong("volumes of '%s' stand in a Pod's `spec.volumes[].csi`; PersistentVolumes of it may not be", v1alpha1.CSIDriver)
	case !request.GetReadonly():
		return wrong("`pod.spec.volumes[].csi.readOnly` must be 'true'")
	}
	return nil
}

// attributesOf returns what the user wrote as `volumeAttributes`.
func attributesOf(volumeContext map[string]string) (url.Values, error) {
	attributes := url.Values{}
	for name, value := range volumeContext {
		switch {
		case strings.HasPrefix(name, kubeletPrefix):
		case name == v1alpha1.VolumeConnectors, name == v1alpha1.VolumeConfigurations, name == v1alpha1.VolumeMountPath:
			attributes.Set(name, value)
		default:
			return nil, wrong("`pod.spec.volumes[].csi.volumeAttributes` has %q, which is not known; use `%s`, `%s` and `%s`",
				name, v1alpha1.VolumeConnectors, v1alpha1.VolumeConfigurations, v1alpha1.VolumeMountPath)
		}
	}
	return attributes, nil
}

// tokenOf returns the Pod's token, which kubelet sends.
func tokenOf(request *spec.NodePublishVolumeRequest) (string, error) {
	inSecrets, secret := request.GetSecrets()[keyTokens]
	inContext, attribute := request.GetVolumeContext()[keyTokens]
	switch {
	case secret && attribute:
		return "", wrong("`pod.spec.volumes[].csi.volumeAttributes` has '%s', which is for kubelet to write; remove it", keyTokens)
	case len(request.GetSecrets()) > 1 || len(request.GetSecrets()) == 1 && !secret:
		return "", wrong("`pod.spec.volumes[].csi.nodePublishSecretRef` is not used; remove it")
	case !secret:
		inSecrets = inContext
	}
	var byAudience map[string]struct {
		Token string `json:"token"`
	}
	if inSecrets != "" && json.Unmarshal([]byte(inSecrets), &byAudience) != nil {
		return "", &mistake{codes.Internal, "kubelet's '" + keyTokens + "' is no JSON"} // json's words have some of it
	}
	token := byAudience[v1alpha1.TokenAudience].Token
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return "", &mistake{codes.FailedPrecondition, fmt.Sprintf(
			"kubelet sends no token of the Pod's ServiceAccount: the CSIDriver '%s' must have `tokenRequests: [{audience: %s}]`, as in Berth's manifests", v1alpha1.CSIDriver, v1alpha1.TokenAudience)}
	}
	return token, nil
}
