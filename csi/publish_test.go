package csi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"

	"berth.dev/berth/api/v1alpha1"
)

const podToken = "pod.very-secret.token"

// fakeMounter stands in where the test is not root: a folder is a volume, and unmounting takes its files.
type fakeMounter struct {
	*mount.FakeMounter
}

func newFakeMounter() fakeMounter { return fakeMounter{mount.NewFakeMounter(nil)} }

func (m fakeMounter) Unmount(target string) error {
	entries, _ := os.ReadDir(target)
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(target, entry.Name())); err != nil {
			return err
		}
	}
	return m.FakeMounter.Unmount(target)
}

// node is a Publisher with the proxy that it asks, as the test wants it.
type testNode struct {
	*Publisher

	files   map[string][]byte
	now     string // the generation
	err     error
	asked   int
	query   url.Values
	log     bytes.Buffer
	mounter mount.Interface
	target  string
}

// Files implements Files.
func (n *testNode) Files(_ context.Context, token, generation string, attributes url.Values) (*v1alpha1.Files, error) {
	n.asked++
	n.query = attributes
	switch {
	case token != podToken:
		return nil, fmt.Errorf("another token: %d bytes", len(token))
	case n.err != nil:
		return nil, n.err
	case generation == n.now:
		return nil, nil //nolint:nilnil // nothing changed, and nothing is wrong
	default:
		return &v1alpha1.Files{Generation: n.now, Files: n.files}, nil
	}
}

func newTestNode(t *testing.T, mounter mount.Interface) *testNode {
	t.Helper()
	n := &testNode{files: map[string][]byte{"config.json": []byte("{}")}, now: "a", mounter: mounter, target: filepath.Join(t.TempDir(), "volume", "mount")}
	n.restart()
	return n
}

// restart is a new process of the plugin.
func (n *testNode) restart() {
	n.Publisher = NewPublisher("node-1", n, n.mounter, slog.New(slog.NewJSONHandler(&n.log, nil)))
}

// request is what kubelet sends.
func (n *testNode) request(changes ...func(*spec.NodePublishVolumeRequest)) *spec.NodePublishVolumeRequest {
	r := &spec.NodePublishVolumeRequest{
		VolumeId: "csi-1", TargetPath: n.target, Readonly: true,
		VolumeCapability: &spec.VolumeCapability{AccessType: &spec.VolumeCapability_Mount{Mount: &spec.VolumeCapability_MountVolume{}}},
		VolumeContext:    map[string]string{keyEphemeral: "true", "csi.storage.k8s.io/pod.name": "app", "connectors": "demo/harbor"},
		Secrets:          map[string]string{keyTokens: tokens(podToken)},
	}
	for _, change := range changes {
		change(r)
	}
	return r
}

func tokens(token string) string {
	return `{"other":{"token":"x"},"connectors.berth.dev":{"token":"` + token + `","expirationTimestamp":"2026-11-21T12:00:00Z"}}`
}

func (n *testNode) publish(t *testing.T) {
	t.Helper()
	if _, err := n.NodePublishVolume(t.Context(), n.request()); err != nil {
		t.Fatal(err)
	}
}

func (n *testNode) unpublish(t *testing.T) {
	t.Helper()
	if _, err := n.NodeUnpublishVolume(t.Context(), &spec.NodeUnpublishVolumeRequest{VolumeId: "csi-1", TargetPath: n.target}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(n.target); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the target is left: %v", err)
	}
}

func (n *testNode) has(t *testing.T, want string) {
	t.Helper()
	if diff := cmp.Diff(map[string]string{"config.json": want}, visible(t, n.target)); diff != "" {
		t.Errorf("the files (-want +got):\n%s", diff)
	}
}

// mounters are those that this user can try.
func mounters(t *testing.T) map[string]func() mount.Interface {
	t.Helper()
	all := map[string]func() mount.Interface{"fake": func() mount.Interface { return newFakeMounter() }}
	if mayMount(t) {
		all["real"] = NewMounter
	} else {
		t.Log("SKIPPED: real mounts, which need root on Linux")
	}
	return all
}

func mayMount(t testing.TB) bool {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 || runtime.GOOS != "linux" || NewMounter().Mount("tmpfs", dir, "tmpfs", nil) != nil {
		return false
	}
	return NewMounter().Unmount(dir) == nil
}

// TestLife: a volume is published, again and again, by one process and the next, and unpublished, once and again.
func TestLife(t *testing.T) {
	t.Parallel()
	for name, mounter := range mounters(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newTestNode(t, mounter())
			t.Cleanup(func() { _ = n.mounter.Unmount(n.target) })
			n.unpublish(t) // that was never published
			n.publish(t)
			n.has(t, "{}")
			n.publish(t)
			n.files, n.now = map[string][]byte{"config.json": []byte("{1}")}, "b"
			n.publish(t)
			n.has(t, "{1}")
			n.restart()
			n.publish(t)
			n.has(t, "{1}")
			if mounted, err := n.mounter.IsMountPoint(n.target); err != nil || !mounted {
				t.Errorf("mounted: %t, %v", mounted, err)
			}
			if diff := cmp.Diff(url.Values{"connectors": {"demo/harbor"}}, n.query); diff != "" {
				t.Errorf("what the proxy is asked (-want +got):\n%s", diff)
			}
			n.unpublish(t)
			n.unpublish(t)
			n.publish(t)
			n.has(t, "{1}")
			n.unpublish(t)
		})
	}
}

// TestCrashBeforeFiles: a process that ended after the mount, and before the files.
func TestCrashBeforeFiles(t *testing.T) {
	t.Parallel()
	for name, mounter := range mounters(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newTestNode(t, mounter())
			if err := errors.Join(os.MkdirAll(n.target, 0o750), n.mounter.Mount("tmpfs", n.target, "tmpfs", nil)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = n.mounter.Unmount(n.target) })
			n.publish(t)
			n.has(t, "{}")
			n.unpublish(t)
		})
	}
}

// TestFailures: a Pod that is refused finds nothing; one that runs keeps its files; and both are told what to do.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		code codes.Code
		says string
	}{
		"attribute":   {&Refusal{http.StatusBadRequest, "attribute x"}, codes.InvalidArgument, "attribute x"},
		"token":       {&Refusal{http.StatusUnauthorized, "token x"}, codes.Unauthenticated, "token x"},
		"access":      {&Refusal{http.StatusForbidden, "access x"}, codes.PermissionDenied, "access x"},
		"unknown":     {&Refusal{http.StatusNotFound, "unknown x"}, codes.NotFound, "unknown x"},
		"template":    {&Refusal{http.StatusUnprocessableEntity, "template x"}, codes.FailedPrecondition, "template x"},
		"too many":    {&Refusal{http.StatusTooManyRequests, "limit x"}, codes.ResourceExhausted, "limit x"},
		"not ready":   {&Refusal{http.StatusServiceUnavailable, "wait x"}, codes.Unavailable, "wait x"},
		"fault":       {&Refusal{http.StatusInternalServerError, "fault x"}, codes.Internal, "fault x"},
		"proxy away":  {errNoProxy, codes.Unavailable, "does not know yet where Berth's proxy is"},
		"disk full":   {fmt.Errorf("write: %w", syscall.ENOSPC), codes.ResourceExhausted, "do not fit: it may have 16m"},
		"interrupted": {context.DeadlineExceeded, codes.Unavailable, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newTestNode(t, newFakeMounter())
			refused := func() {
				t.Helper()
				_, err := n.NodePublishVolume(t.Context(), n.request())
				if status.Code(err) != tc.code || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%v, want %v that says '%s'", err, tc.code, tc.says)
				}
				if strings.Contains(err.Error()+n.log.String(), "very-secret") {
					t.Errorf("the token: %v", err)
				}
			}
			n.err = tc.err
			refused()
			if _, err := os.Lstat(n.target); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something is left: %v", err)
			}
			n.err = nil
			n.publish(t)
			n.err, n.now = tc.err, "b"
			refused()
			n.has(t, "{}")
			if n.log.Len() == 0 {
				t.Error("nothing is logged")
			}
		})
	}
}

// TestDiskFull: a volume that does not hold its files is not there at all, or stays as it was.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if !mayMount(t) {
		t.Skip("SKIPPED: needs root on Linux, to mount")
	}
	n := newTestNode(t, NewMounter())
	full := func() {
		t.Helper()
		n.files, n.now = map[string][]byte{"config.json": make([]byte, 20<<20)}, "full"
		if _, err := n.NodePublishVolume(t.Context(), n.request()); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "do not fit") {
			t.Errorf("error: %v", err)
		}
	}
	full()
	if _, err := os.Lstat(n.target); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("something is left: %v", err)
	}
	n.files, n.now = map[string][]byte{"config.json": []byte("{}")}, "a"
	n.publish(t)
	t.Cleanup(func() { _ = n.mounter.Unmount(n.target) })
	full()
	n.has(t, "{}")
	n.unpublish(t)
}

// TestRequests: what kubelet may send and a user may write, and the words for each.
func TestRequests(t *testing.T) {
	t.Parallel()
	type request = spec.NodePublishVolumeRequest
	for name, tc := range map[string]struct {
		change func(*request)
		code   codes.Code
		says   string
	}{
		"good":                 {func(*request) {}, codes.OK, ""},
		"token in the context": {func(r *request) { r.Secrets = nil; r.VolumeContext[keyTokens] = tokens(podToken) }, codes.OK, ""},
		"all attributes":       {func(r *request) { r.VolumeContext["configurations"], r.VolumeContext["mountPath"] = "a,b", "/x" }, codes.OK, ""},
		"no attributes":        {func(r *request) { delete(r.GetVolumeContext(), "connectors") }, codes.OK, ""},
		"group":                {func(r *request) { group(r, fmt.Sprint(os.Getgid())) }, codes.OK, ""},
		"group by name":        {func(r *request) { group(r, "root") }, codes.InvalidArgument, "must be the number of a group"},
		"group below 0":        {func(r *request) { group(r, "-1") }, codes.InvalidArgument, "must be the number of a group"},
		"no volume ID":         {func(r *request) { r.VolumeId = "" }, codes.InvalidArgument, "`volume_id`"},
		"no target":            {func(r *request) { r.TargetPath = "" }, codes.InvalidArgument, "`target_path`"},
		"target with dots":     {func(r *request) { r.TargetPath += "/../../x" }, codes.InvalidArgument, "without '.' and '..'"},
		"relative target":      {func(r *request) { r.TargetPath = "x" }, codes.InvalidArgument, "must be an absolute path"},
		"no capability":        {func(r *request) { r.VolumeCapability = nil }, codes.InvalidArgument, "`volume_capability`"},
		"block": {func(r *request) {
			r.VolumeCapability.AccessType = &spec.VolumeCapability_Block{Block: &spec.VolumeCapability_BlockVolume{}}
		}, codes.InvalidArgument, "volumes of 'csi.connectors.berth.dev' hold files"},
		"persistent":               {func(r *request) { delete(r.GetVolumeContext(), keyEphemeral) }, codes.InvalidArgument, "PersistentVolumes of it may not be"},
		"writable":                 {func(r *request) { r.Readonly = false }, codes.InvalidArgument, "`pod.spec.volumes[].csi.readOnly` must be 'true'"},
		"unknown attribute":        {func(r *request) { r.VolumeContext["connector"] = "x" }, codes.InvalidArgument, `has "connector", which is not known; use ` + "`connectors`"},
		"tokens beside the Secret": {func(r *request) { r.VolumeContext[keyTokens] = tokens("another") }, codes.InvalidArgument, "which is for kubelet to write; remove it"},
		"another Secret":           {func(r *request) { r.Secrets["user"] = "x" }, codes.InvalidArgument, "`pod.spec.volumes[].csi.nodePublishSecretRef` is not used; remove it"},
		"another Secret alone":     {func(r *request) { r.Secrets = map[string]string{"user": "x"} }, codes.InvalidArgument, "nodePublishSecretRef"},
		"no token":                 {func(r *request) { r.Secrets = nil }, codes.FailedPrecondition, "must have `tokenRequests: [{audience: connectors.berth.dev}]`"},
		"token for others":         {func(r *request) { r.Secrets[keyTokens] = `{"other":{"token":"x"}}` }, codes.FailedPrecondition, "no token of the Pod's ServiceAccount"},
		"tokens are no JSON":       {func(r *request) { r.Secrets[keyTokens] = `{"very-secret` }, codes.Internal, "is no JSON"},
		"token with a line break":  {func(r *request) { r.Secrets[keyTokens] = tokens(`very-secret\nHost: x`) }, codes.FailedPrecondition, "no token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newTestNode(t, newFakeMounter())
			_, err := n.NodePublishVolume(t.Context(), n.request(tc.change))
			if status.Code(err) != tc.code || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %v that says '%s'", err, tc.code, tc.says)
			}
			if asked := n.asked > 0; asked != (tc.code == codes.OK) {
				t.Errorf("the proxy is asked: %t", asked)
			}
			if strings.Contains(fmt.Sprint(err)+n.log.String(), "very-secret") {
				t.Errorf("the token: %v", err)
			}
		})
	}
}

func group(r *spec.NodePublishVolumeRequest, number string) {
	r.VolumeCapability.AccessType = &spec.VolumeCapability_Mount{Mount: &spec.VolumeCapability_MountVolume{VolumeMountGroup: number}}
}

// TestBusy: two calls for one volume do not meet.
func TestBusy(t *testing.T) {
	t.Parallel()
	n := newTestNode(t, newFakeMounter())
	done, err := n.begin("csi-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.NodePublishVolume(t.Context(), n.request()); status.Code(err) != codes.Aborted {
		t.Errorf("publish: %v", err)
	}
	if _, err := n.NodeUnpublishVolume(t.Context(), &spec.NodeUnpublishVolumeRequest{VolumeId: "csi-1", TargetPath: n.target}); status.Code(err) != codes.Aborted {
		t.Errorf("unpublish: %v", err)
	}
	done()
	n.publish(t)
}
