package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"syscall"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"

	"berth.dev/berth/api/v1alpha1"
)

// volumeSize is the most memory that a volume takes: two generations of files, which are some hundred KiB each.
const volumeSize = "16m"

// Files asks for the files of a volume, as a Source does.
type Files interface {
	Files(ctx context.Context, token, generation string, attributes url.Values) (*v1alpha1.Files, error)
}

// Publisher implements the Node service of CSI, for ephemeral inline volumes.
// It remembers nothing: what is published, and of which generation, stands in
// the volumes themselves, so that it may end and start again at any time. Make
// it by NewPublisher.
type Publisher struct {
	spec.UnimplementedNodeServer

	node    string
	files   Files
	mounter mount.Interface
	log     *slog.Logger

	mu   sync.Mutex
	busy map[string]bool // by volume ID
}

// NewPublisher returns the service of the node of that name.
func NewPublisher(node string, files Files, mounter mount.Interface, log *slog.Logger) *Publisher {
	return &Publisher{node: node, files: files, mounter: mounter, log: log, busy: map[string]bool{}}
}

// NodeGetInfo implements the Node service.
func (p *Publisher) NodeGetInfo(context.Context, *spec.NodeGetInfoRequest) (*spec.NodeGetInfoResponse, error) {
	return &spec.NodeGetInfoResponse{NodeId: p.node}, nil
}

// NodeGetCapabilities implements the Node service. Kubelet leaves it to us to
// give the files to the Pod's fsGroup: it would do so after the files are in
// place, and readers would be refused meanwhile.
func (*Publisher) NodeGetCapabilities(context.Context, *spec.NodeGetCapabilitiesRequest) (*spec.NodeGetCapabilitiesResponse, error) {
	return &spec.NodeGetCapabilitiesResponse{Capabilities: []*spec.NodeServiceCapability{{
		Type: &spec.NodeServiceCapability_Rpc{Rpc: &spec.NodeServiceCapability_RPC{Type: spec.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP}},
	}}}, nil
}

// NodePublishVolume implements the Node service. Kubelet calls it for a Pod that
// starts, and again and again while it runs.
func (p *Publisher) NodePublishVolume(ctx context.Context, request *spec.NodePublishVolumeRequest) (*spec.NodePublishVolumeResponse, error) {
	r, err := parse(request)
	if err != nil {
		return nil, p.failed(ctx, "publish", request.GetVolumeId(), err)
	}
	done, err := p.begin(r.volume)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := p.publish(ctx, r); err != nil {
		return nil, p.failed(ctx, "publish", r.volume, err)
	}
	return &spec.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume implements the Node service.
func (p *Publisher) NodeUnpublishVolume(ctx context.Context, request *spec.NodeUnpublishVolumeRequest) (*spec.NodeUnpublishVolumeResponse, error) {
	if err := checkNames(request.GetVolumeId(), request.GetTargetPath()); err != nil {
		return nil, p.failed(ctx, "unpublish", request.GetVolumeId(), err)
	}
	done, err := p.begin(request.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer done()
	if err := mount.CleanupMountPoint(request.GetTargetPath(), p.mounter, false); err != nil {
		return nil, p.failed(ctx, "unpublish", request.GetVolumeId(), err)
	}
	return &spec.NodeUnpublishVolumeResponse{}, nil
}

// begin lets one call at a time work on a volume.
func (p *Publisher) begin(volume string) (done func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy[volume] {
		return nil, status.Errorf(codes.Aborted, "volume '%s' is being worked on; ask again", volume)
	}
	p.busy[volume] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.busy, volume)
	}, nil
}

// publish asks for the files, and only then makes the volume: where there are
// none, nothing is left behind, and a volume that is there stays as it is.
func (p *Publisher) publish(ctx context.Context, r *publication) error {
	mounted, err := p.mounter.IsMountPoint(r.target)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var have string
	if mounted {
		if have, err = generationAt(r.target); err != nil {
			return err
		}
	}
	files, err := p.files.Files(ctx, r.token, have, r.attributes)
	if err != nil || files == nil {
		return err
	}
	if mounted {
		return fill(r, files)
	}
	return p.create(r, files)
}

func generationAt(target string) (string, error) {
	v, err := openVolume(target, -1)
	if err != nil {
		return "", err
	}
	return v.generation(), v.Close()
}

// create mounts the volume and fills it, or leaves nothing.
func (p *Publisher) create(r *publication, files *v1alpha1.Files) error {
	if err := os.MkdirAll(r.target, 0o750); err != nil {
		return err
	}
	if err := p.mounter.Mount("tmpfs", r.target, "tmpfs", []string{"nosuid", "nodev", "noexec", "mode=0755", "size=" + volumeSize}); err != nil {
		return errors.Join(err, os.Remove(r.target))
	}
	if err := fill(r, files); err != nil {
		return errors.Join(err, mount.CleanupMountPoint(r.target, p.mounter, false))
	}
	return nil
}

// fill writes the files into a volume that is mounted.
func fill(r *publication, files *v1alpha1.Files) error {
	v, err := openVolume(r.target, r.group)
	if err != nil {
		return err
	}
	return errors.Join(v.write(files.Generation, files.Files), v.Close())
}

// failed is where errors become those of gRPC, and are logged. Kubelet writes them into the Pod's events.
func (p *Publisher) failed(ctx context.Context, what, volume string, err error) error {
	code := codeOf(err)
	p.log.LogAttrs(ctx, slog.LevelWarn, what, slog.String("volume", volume), slog.String("code", code.String()), slog.String("error", err.Error()))
	if code == codes.ResourceExhausted && errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("the files of the volume do not fit: it may have %s, and the node must have that much memory: %w", volumeSize, err)
	}
	return status.Error(code, err.Error())
}

func codeOf(err error) codes.Code {
	var refusal *Refusal
	var mistake *mistake
	switch {
	case errors.As(err, &mistake):
		return mistake.code
	case errors.As(err, &refusal):
		return codeOfStatus(refusal.Status)
	case errors.Is(err, syscall.ENOSPC):
		return codes.ResourceExhausted
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist):
		return codes.Internal
	default:
		return codes.Unavailable
	}
}

func codeOfStatus(code int) codes.Code {
	switch code {
	case http.StatusBadRequest:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusUnprocessableEntity:
		return codes.FailedPrecondition
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	default:
		return codes.Internal
	}
}
