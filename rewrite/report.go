package rewrite

import (
	"errors"
	"fmt"

	"berth.dev/berth/route"
)

// Report is what was done to a Pod, and what was not.
type Report struct {
	Changes []Change
	Skips   []Skip
}

func (r *Report) skip(s Skip) { r.Skips = append(r.Skips, s) }

// Change is something that was changed. That the pull secret was listed, which
// happens to every Pod, is none.
type Change struct {
	// Field that was changed, such as 'spec.containers{app}.image'.
	Field string
	// Reason is ReasonRewritten for images, else what was added.
	Reason Reason
	// From is the image as the user wrote it, To as it is now; for other changes To says what was added.
	From, To string
	// Connector that serves the image.
	Connector route.Connector
}

// Skip is something that was left as it was.
type Skip struct {
	// Field and Image are empty where the skip is about the whole Pod.
	Field, Image string
	// Reason is for machines; its Sentence is for people.
	Reason Reason
	// Detail adds to the sentence what is particular to this case; it may be empty.
	Detail string
}

// String is the skip for people, reason first.
func (s Skip) String() string {
	text := string(s.Reason) + ": "
	if s.Image != "" {
		text += "'" + s.Image + "' in "
	}
	if s.Field != "" {
		text += "`" + s.Field + "` "
	}
	text += s.Reason.Sentence()
	if s.Detail != "" {
		text += ": " + s.Detail
	}
	return text
}

// Reason says why something was left alone, or why a Pod is refused. Reasons
// are stable: they stand in reports, warnings and audit annotations.
type Reason string

// The reasons.
const (
	// ReasonRewritten is a change, not a skip.
	ReasonRewritten Reason = "Rewritten"
	// ReasonOptedOut: the Pod's inject label says disabled.
	ReasonOptedOut Reason = "OptedOut"
	// ReasonProxyAdded is a change: the container was given the proxy's variables.
	ReasonProxyAdded Reason = "ProxyAdded"
	// ReasonFilesAdded is a change: the container was given the folder with the Connectors' files.
	ReasonFilesAdded Reason = "FilesAdded"
	// ReasonMirrorPod: the Pod mirrors a static Pod of a node, which cannot be changed here.
	ReasonMirrorPod Reason = "MirrorPod"
	// ReasonWindows: Berth has no node part for Windows.
	ReasonWindows Reason = "Windows"
	// ReasonNodeClass: the Pod asks for a class of nodes that the configuration excludes.
	ReasonNodeClass Reason = "NodeClass"
	// ReasonOwner: a controller that may compare the Pod with its own spec owns it.
	ReasonOwner Reason = "Owner"
	// ReasonAnnotationInvalid: an annotation has a value that is not known.
	ReasonAnnotationInvalid Reason = "AnnotationInvalid"
	// ReasonPullSecretMissing: the Pod exists and does not list the pull secret.
	ReasonPullSecretMissing Reason = "PullSecretMissing"
	// ReasonVariableTaken: the user set an environment variable that the proxy needs.
	ReasonVariableTaken Reason = "VariableTaken"
	// ReasonMountPathTaken: the user mounts something else where the Connectors' files belong.
	ReasonMountPathTaken Reason = "MountPathTaken"
	// ReasonNotConfigured: an annotation asks for what the configuration does not provide for.
	ReasonNotConfigured Reason = "NotConfigured"
	// ReasonAnnotationsFull: the original images have no room in the annotations.
	ReasonAnnotationsFull Reason = "AnnotationsFull"
	// ReasonImagesKept: the images annotation says keep.
	ReasonImagesKept Reason = "ImagesKept"
	// ReasonPullPolicyNever: kubelet will not pull it.
	ReasonPullPolicyNever Reason = "PullPolicyNever"
	// ReasonUnparseable: not an image reference.
	ReasonUnparseable Reason = "Unparseable"
	// ReasonNoConnector: no Connector that this Pod may be given serves the registry.
	ReasonNoConnector Reason = "NoConnector"
	// ReasonNotGranted: Connectors serve the registry, but do not let this namespace pull the repository.
	ReasonNotGranted Reason = "NotGranted"
	// ReasonNameTooLong: the rewritten name would pass the 255 characters that a repository name may have.
	ReasonNameTooLong Reason = "NameTooLong"
	// ReasonAlreadyRouted: the image already goes through a Connector that the namespace may use.
	ReasonAlreadyRouted Reason = "AlreadyRouted"

	// ReasonConnectorInvalid refuses: an annotation does not name Connectors.
	ReasonConnectorInvalid Reason = "ConnectorInvalid"
	// ReasonConnectorNotFound refuses: a Connector that is named does not exist.
	ReasonConnectorNotFound Reason = "ConnectorNotFound"
	// ReasonConnectorForbidden refuses: the namespace may not use a Connector that is named.
	ReasonConnectorForbidden Reason = "ConnectorForbidden"
)

// Sentence is the reason for people.
func (r Reason) Sentence() string {
	switch r {
	case ReasonOptedOut:
		return "the Pod is left alone, as its label asks"
	case ReasonMirrorPod:
		return "the Pod mirrors a static Pod and is left alone"
	case ReasonProxyAdded:
		return "the container was given the proxy"
	case ReasonFilesAdded:
		return "the container was given the Connectors' files"
	case ReasonNodeClass:
		return "Pods for nodes of this class are left alone"
	case ReasonOwner:
		return "Pods of this controller are left alone, since it may make changed Pods anew for ever"
	case ReasonAnnotationInvalid:
		return "is not understood"
	case ReasonVariableTaken:
		return "is left as the user set it"
	case ReasonMountPathTaken:
		return "are left as the user set them, without the Connectors' files: their place is taken"
	case ReasonNotConfigured:
		return "has no effect: Berth's configuration does not provide for it"
	case ReasonAnnotationsFull:
		return "is left as it is, and the original images are not noted: they do not fit into the Pod's annotations"
	case ReasonWindows:
		return "Pods for Windows nodes are left alone"
	case ReasonConnectorInvalid, ReasonConnectorNotFound, ReasonConnectorForbidden:
		return "the Pod contradicts itself"
	default:
		return r.ofImage()
	}
}

// ofImage is the sentence of a reason that is about an image.
func (r Reason) ofImage() string {
	switch r {
	case ReasonRewritten:
		return "goes through a Connector now"
	case ReasonPullSecretMissing:
		return "is left alone: the Pod is older than Berth's pull secret and cannot pull through a Connector; recreate the Pod"
	case ReasonImagesKept:
		return "is kept, as the annotation asks"
	case ReasonPullPolicyNever:
		return "is left alone: `imagePullPolicy` is Never"
	case ReasonUnparseable:
		return "is left alone: it is not an image reference"
	case ReasonNoConnector:
		return "is left alone: no Connector for its registry is open to this Pod"
	case ReasonNotGranted:
		return "is left alone: no Connector grants this namespace to pull that repository"
	case ReasonNameTooLong:
		return "is left alone: its name through the Connector would be too long"
	case ReasonAlreadyRouted:
		return "already goes through a Connector"
	default:
		return "has an unknown reason"
	}
}

// Warns reports whether a user would want to be told of it when he creates a Pod.
func (r Reason) Warns() bool {
	switch r {
	case ReasonUnparseable, ReasonNotGranted, ReasonNameTooLong, ReasonAnnotationInvalid, ReasonPullSecretMissing, ReasonVariableTaken, ReasonMountPathTaken,
		ReasonNotConfigured, ReasonAnnotationsFull:
		return true
	default:
		return false
	}
}

// Refusal is why a Pod cannot be admitted: it asks for what cannot be.
type Refusal struct {
	Reason Reason
	// Field of the Pod, or annotation, that contradicts.
	Field string
	// Detail says what is wrong and what to write instead.
	Detail string
}

// Error is the reason, the place and the detail.
func (r *Refusal) Error() string {
	return fmt.Sprintf("%s: `%s`: %s", r.Reason, r.Field, r.Detail)
}

// inField notes where a refusal is about an image.
func inField(err error, field string) error {
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Field != "" {
		return err
	}
	located := *refusal
	located.Field = field
	return &located
}
