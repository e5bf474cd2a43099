package csi

import (
	"context"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"k8s.io/mount-utils"
)

// TestSanity is the suite of Kubernetes' CSI project. It is written for drivers
// of persistent volumes: so a controller stands by that has volumes for the
// asking, and what the suite publishes is made to look like kubelet's requests
// for volumes in a Pod's spec. What it has to say of controllers is left out.
//
// The suite can run once in a process, so that it gets one of its own.
func TestSanity(t *testing.T) {
	t.Parallel()
	if *inSuite {
		runSuite(t)
		return
	}
	out, err := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSanity$", "-test.v", "-suite").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "SUCCESS!") {
		t.Errorf("%v\n%s", err, out)
	}
}

var inSuite = flag.Bool("suite", false, "run csi-test's suite in this process") //nolint:gochecknoglobals // flags are

func runSuite(t *testing.T) {
	t.Helper()
	mounter := mount.Interface(newFakeMounter())
	if mayMount(t) {
		mounter = NewMounter()
	} else {
		t.Log("SKIPPED: real mounts, which need root on Linux")
	}
	p, _ := start(t, mounter)
	config := sanity.NewTestConfig()
	config.Address, config.ControllerAddress = "unix:"+p.socket(), "unix:"+serveController(t, p)
	config.TargetPath, config.StagingPath = filepath.Join(p.KubeletDir, "target"), filepath.Join(p.KubeletDir, "staging")
	config.DialOptions = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(asKubelet)}
	config.ControllerDialOptions = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}

	suite, report := ginkgo.GinkgoConfiguration()
	suite.SkipStrings = []string{"Controller Server"}
	report.Succinct, report.NoColor = true, true
	gomega.RegisterFailHandler(ginkgo.Fail)
	c := sanity.GinkgoTest(&config)
	ginkgo.RunSpecs(t, "CSI", suite, report)
	c.Finalize()
}

// asKubelet completes a request to publish as kubelet does.
func asKubelet(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if r, ok := request.(*spec.NodePublishVolumeRequest); ok {
		r, _ = proto.Clone(r).(*spec.NodePublishVolumeRequest)
		r.Readonly = true
		r.VolumeContext = map[string]string{keyEphemeral: "true"}
		r.Secrets = map[string]string{keyTokens: tokens(podToken)}
		request = r
	}
	return invoke(ctx, method, request, reply, connection, options...)
}

// controller has volumes for the asking.
type controller struct {
	spec.UnimplementedControllerServer
}

func serveController(t *testing.T, p *Plugin) (socket string) {
	t.Helper()
	socket = filepath.Join(p.KubeletDir, "controller.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	spec.RegisterIdentityServer(server, p)
	spec.RegisterControllerServer(server, controller{})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return socket
}

func (controller) CreateVolume(_ context.Context, r *spec.CreateVolumeRequest) (*spec.CreateVolumeResponse, error) {
	return &spec.CreateVolumeResponse{Volume: &spec.Volume{VolumeId: r.GetName(), CapacityBytes: r.GetCapacityRange().GetRequiredBytes()}}, nil
}

func (controller) DeleteVolume(context.Context, *spec.DeleteVolumeRequest) (*spec.DeleteVolumeResponse, error) {
	return &spec.DeleteVolumeResponse{}, nil
}

func (controller) ControllerGetCapabilities(context.Context, *spec.ControllerGetCapabilitiesRequest) (*spec.ControllerGetCapabilitiesResponse, error) {
	return &spec.ControllerGetCapabilitiesResponse{}, nil
}
