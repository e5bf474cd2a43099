package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/csi"
)

// nodeClient is the caches of a node, which know the proxy.
type nodeClient struct {
	client.Client

	server *filesServer
}

// Get implements client.Reader.
func (c nodeClient) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	switch o := into.(type) {
	case *corev1.Service:
		o.Spec.ClusterIPs = []string{c.server.address.Addr().String()}
		o.Spec.Ports = []corev1.ServicePort{{Name: v1alpha1.ProxyPort, Port: int32(c.server.address.Port())}}
	case *corev1.ConfigMap:
		o.Data = map[string]string{v1alpha1.CACertKey: string(c.server.authority)}
	}
	return nil
}

// plugin is a node's CSI driver below a folder.
type plugin struct {
	*csi.Publisher

	folder string
}

func newPlugin(files csi.Files, folder string) plugin {
	return plugin{csi.NewPublisher("node-1", files, csi.NewMounter(), slog.New(slog.DiscardHandler)), folder}
}

// ofProxy asks the server for files, as the driver of a node does.
func ofProxy(server *filesServer) csi.Files {
	return csi.NewSource(&csi.Node{Client: nodeClient{server: server}})
}

func (p plugin) target(n int) string { return filepath.Join(p.folder, strconv.Itoa(n), "mount") }

// publish is what kubelet asks for a Pod with the files of a build, with a token of a usual length.
func (p plugin) publish(ctx context.Context, n int) error {
	token := fmt.Sprintf("%0*d", 2*tokenLength, n)
	_, err := p.NodePublishVolume(ctx, &spec.NodePublishVolumeRequest{
		VolumeId: strconv.Itoa(n), TargetPath: p.target(n), Readonly: true,
		VolumeCapability: &spec.VolumeCapability{AccessType: &spec.VolumeCapability_Mount{Mount: &spec.VolumeCapability_MountVolume{}}},
		VolumeContext: map[string]string{
			"csi.storage.k8s.io/ephemeral": "true", v1alpha1.VolumeConnectors: own + "/harbor", v1alpha1.VolumeConfigurations: "registry-config,buildkitd",
		},
		Secrets: map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": `{"` + v1alpha1.TokenAudience + `":{"token":"` + token + `"}}`},
	})
	return err
}

func (p plugin) unpublish(ctx context.Context, n int) error {
	_, err := p.NodeUnpublishVolume(ctx, &spec.NodeUnpublishVolumeRequest{VolumeId: strconv.Itoa(n), TargetPath: p.target(n)})
	return err
}

// mayMount says loudly what is not measured by who is not root.
func mayMount(what string) bool {
	if os.Geteuid() == 0 {
		return true
	}
	fmt.Fprintf(os.Stderr, "SKIPPED: %s: needs root, to mount\n", what)
	return false
}

// publish measures a new volume with the files of a build, rendered by the proxy, against one of the same driver with
// one constant file. Both are asked for over TLS.
func publish(ctx context.Context, out *results) error {
	if !mayMount("publish") {
		return nil
	}
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	proxy, err := serveFiles(ctx, filesHandler)
	if err != nil {
		return err
	}
	defer proxy.close()
	constant, err := serveFiles(ctx, oneFile)
	if err != nil {
		return err
	}
	defer constant.close()
	ours, least := newPlugin(ofProxy(proxy), filepath.Join(folder, "ours")), newPlugin(ofProxy(constant), filepath.Join(folder, "least"))
	var a, b []time.Duration
	var ratios []float64
	for i := range rounds {
		first, err := ours.once(ctx, i)
		if err != nil {
			return err
		}
		second, err := least.once(ctx, i)
		if err != nil {
			return err
		}
		if i > 0 { // the proxy is warm from then on
			a, b, ratios = append(a, first), append(b, second), append(ratios, float64(first)/float64(second))
		}
	}
	out.ratio("publish-time", median(ratios), 2)
	out.detailf("publish %v, one constant file %v", median(a), median(b))
	return nil
}

// once publishes a volume, says how long that took, and removes it.
func (p plugin) once(ctx context.Context, n int) (time.Duration, error) {
	start := time.Now()
	err := p.publish(ctx, n)
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	return took, p.unpublish(ctx, n)
}
