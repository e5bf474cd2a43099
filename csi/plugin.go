package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"berth.dev/berth/api/v1alpha1"
)

const (
	// specVersion is what kubelet calls the CSI of version 1.
	specVersion = "1.0.0"
	// endTimeout is how long calls may take to their end when the plugin ends.
	endTimeout = 5 * time.Second
	// socketFolderMode is that of the folder that we make for our socket, below kubelet's.
	socketFolderMode = 0o750
)

// Plugin serves a Publisher to kubelet: on a socket of the driver's, and on one
// by which kubelet finds that. Kubelet watches the folder of the latter, now and
// after its own restart.
type Plugin struct {
	spec.UnimplementedIdentityServer
	registration.UnsafeRegistrationServer

	// Publisher publishes.
	Publisher *Publisher
	// KubeletDir is kubelet's root folder, under the same path as on the node.
	KubeletDir string
	// Version is that of Berth.
	Version string
	// Log gets what kubelet says of the registration.
	Log *slog.Logger

	registered atomic.Bool
}

// socket is where the driver serves, and registrationSocket where kubelet learns of it.
func (p *Plugin) socket() string {
	return filepath.Join(p.KubeletDir, "plugins", v1alpha1.CSIDriver, "csi.sock")
}

func (p *Plugin) registrationSocket() string {
	return filepath.Join(p.KubeletDir, "plugins_registry", v1alpha1.CSIDriver+"-reg.sock")
}

// Registered reports whether kubelet has taken the plugin.
func (p *Plugin) Registered() bool { return p.registered.Load() }

// NeedLeaderElection implements manager.LeaderElectionRunnable: every node serves.
func (*Plugin) NeedLeaderElection() bool { return false }

// Start serves until the context ends.
func (p *Plugin) Start(ctx context.Context) error {
	driver, registry := grpc.NewServer(), grpc.NewServer()
	spec.RegisterIdentityServer(driver, p)
	spec.RegisterNodeServer(driver, p.Publisher)
	registration.RegisterRegistrationServer(registry, p)
	ended := make(chan error, 2)
	for _, s := range []struct {
		server *grpc.Server
		socket string
	}{{driver, p.socket()}, {registry, p.registrationSocket()}} { // the driver first: kubelet calls it at once
		listener, err := listen(ctx, s.socket)
		if err != nil {
			driver.Stop()
			return err
		}
		go func() { ended <- s.server.Serve(listener) }()
	}
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
	}
	registry.Stop()
	stop(driver)
	return err
}

// stop lets calls end, for a while.
func stop(server *grpc.Server) {
	hard := time.AfterFunc(endTimeout, server.Stop)
	defer hard.Stop()
	server.GracefulStop()
}

// listen listens where another process of ours may have listened, and not have ended well.
func listen(ctx context.Context, socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), socketFolderMode); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(socket); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listen for kubelet: %w", err)
	}
	return listener, nil
}

// GetPluginInfo implements the Identity service.
func (p *Plugin) GetPluginInfo(context.Context, *spec.GetPluginInfoRequest) (*spec.GetPluginInfoResponse, error) {
	return &spec.GetPluginInfoResponse{Name: v1alpha1.CSIDriver, VendorVersion: p.Version}, nil
}

// GetPluginCapabilities implements the Identity service: there is a Node service alone.
func (*Plugin) GetPluginCapabilities(context.Context, *spec.GetPluginCapabilitiesRequest) (*spec.GetPluginCapabilitiesResponse, error) {
	return &spec.GetPluginCapabilitiesResponse{}, nil
}

// Probe implements the Identity service.
func (*Plugin) Probe(context.Context, *spec.ProbeRequest) (*spec.ProbeResponse, error) {
	return &spec.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

// GetInfo implements kubelet's registration of plugins.
func (p *Plugin) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: v1alpha1.CSIDriver, Endpoint: p.socket(), SupportedVersions: []string{specVersion},
	}, nil
}

// NotifyRegistrationStatus implements kubelet's registration of plugins. Kubelet tries again by itself.
func (p *Plugin) NotifyRegistrationStatus(ctx context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	p.registered.Store(s.GetPluginRegistered())
	if s.GetPluginRegistered() {
		p.Log.InfoContext(ctx, "kubelet has taken the CSI driver")
	} else {
		p.Log.ErrorContext(ctx, "kubelet does not take the CSI driver", "error", s.GetError())
	}
	return &registration.RegistrationStatusResponse{}, nil
}
