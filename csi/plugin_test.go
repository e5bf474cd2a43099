package csi

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/mount-utils"

	"berth.dev/berth/api/v1alpha1"
)

// anybody answers every token with the same files.
type anybody struct{}

func (anybody) Files(context.Context, string, string, url.Values) (*v1alpha1.Files, error) {
	return &v1alpha1.Files{Generation: "a", Files: map[string][]byte{"config.json": []byte("{}")}}, nil
}

// start starts a plugin below a folder as kubelet's, and ends it with the test.
func start(t *testing.T, mounter mount.Interface) (*Plugin, func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "berth") //nolint:usetesting // a socket's path may not be long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return startIn(t, dir, anybody{}, mounter)
}

func startIn(t *testing.T, dir string, files Files, mounter mount.Interface) (*Plugin, func()) {
	t.Helper()
	p := &Plugin{Publisher: NewPublisher("node-1", files, mounter, slog.New(slog.DiscardHandler)), KubeletDir: dir, Version: "test", Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Start(ctx) }()
	end := func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ended <- nil
	}
	t.Cleanup(end)
	return p, end
}

func dialSocket(t *testing.T, path string) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// TestRegistration: kubelet finds the driver, by a plugin that was killed and its successor too.
func TestRegistration(t *testing.T) {
	t.Parallel()
	p, end := start(t, newFakeMounter())
	register := func(p *Plugin) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		client := registration.NewRegistrationClient(dialSocket(t, filepath.Join(p.KubeletDir, "plugins_registry", "csi.connectors.berth.dev-reg.sock")))
		info, err := client.GetInfo(ctx, &registration.InfoRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if info.GetType() != "CSIPlugin" || info.GetName() != v1alpha1.CSIDriver || info.GetEndpoint() != p.socket() || len(info.GetSupportedVersions()) != 1 {
			t.Errorf("GetInfo: %v", info)
		}
		for _, taken := range []bool{false, true, false} {
			if _, err := client.NotifyRegistrationStatus(ctx, &registration.RegistrationStatus{PluginRegistered: taken, Error: "why"}); err != nil || p.Registered() != taken {
				t.Errorf("Registered = %t, %v, want %t", p.Registered(), err, taken)
			}
		}
	}
	register(p)
	end()
	// What a killed process leaves: sockets that nobody listens on.
	for _, socket := range []string{p.socket(), p.registrationSocket()} {
		leave(t, socket)
	}
	successor, _ := startIn(t, p.KubeletDir, anybody{}, newFakeMounter())
	register(successor)
}

// leave makes a socket that nobody listens on.
func leave(t *testing.T, path string) {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
}
