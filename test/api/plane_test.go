package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"berth.dev/berth/api/v1alpha1"
)

// plane is a control plane with Berth installed.
type plane struct {
	client    client.Client // the administrator's
	clientset kubernetes.Interface
	config    *rest.Config
	berth     *process
	audit     *audit

	dir      string
	programs string
	env      *envtest.Environment
	front    *front
	watchdog io.Closer
	logs     map[string]*lockedBuffer
}

// startLimit is for an API server on a machine that does much else; it takes 4 s on one that does not.
const startLimit = time.Minute

// socket is where the front listens.
const socket = "front.sock"

const egressSelector = `
apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport: {uds: {udsName: "%s"}}
`

// auditPolicy has what is asked of Pods on record, with the patches of webhooks.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: Request
  verbs: [create, update, patch]
  resources: [{group: "", resources: [pods, pods/ephemeralcontainers]}]
- level: None
`

// startPlane returns a plane also where it fails, so that what runs can be stopped.
func startPlane(ctx context.Context, dir, programs string) (p *plane, err error) {
	p = &plane{
		dir: dir, programs: programs, audit: &audit{file: filepath.Join(dir, "audit.log")},
		logs: map[string]*lockedBuffer{"etcd": {}, "kube-apiserver": {}, "berth": {}},
	}
	for _, step := range []func(context.Context) error{
		p.startFront, p.startAPIServer, p.install, p.startBerth,
	} {
		if err := step(ctx); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *plane) startFront(ctx context.Context) (err error) {
	p.front, err = newFront(ctx, p.path(socket))
	return err
}

func (p *plane) startAPIServer(ctx context.Context) error {
	p.env = &envtest.Environment{BinaryAssetsDirectory: p.programs, ControlPlaneStartTimeout: startLimit}
	server := p.env.ControlPlane.GetAPIServer()
	server.Out, server.Err = io.Discard, p.logs["kube-apiserver"]
	p.env.ControlPlane.Etcd = &envtest.Etcd{Out: io.Discard, Err: p.logs["etcd"], DataDir: p.path("etcd")}
	server.CertDir = p.path("certificates")
	for _, dir := range []string{p.env.ControlPlane.Etcd.DataDir, server.CertDir} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	for flag, content := range map[string]string{
		"egress-selector-config-file": fmt.Sprintf(egressSelector, p.path(socket)),
		"audit-policy-file":           auditPolicy,
	} {
		file := p.path(flag)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return err
		}
		server.Configure().Append(flag, file)
	}
	server.Configure().Append("audit-log-path", p.audit.file)
	config, err := p.env.Start()
	if err != nil {
		return fmt.Errorf("start etcd and kube-apiserver: %w", err)
	}
	if p.watchdog, err = watch(ctx); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	config.WarningHandler = rest.NoWarnings{} // tests that look at warnings have a handler of their own
	p.config = config
	if p.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	if p.clientset, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	return os.WriteFile(p.path("admin.kubeconfig"), p.env.KubeConfig, 0o600)
}

// install does what the documentation says.
func (p *plane) install(ctx context.Context) error {
	for _, args := range [][]string{
		{"apply", "--server-side", "-k", "../../manifests/crds"},
		{"wait", "--for=condition=Established", "crd", "-l", "app.kubernetes.io/part-of=berth", "--timeout=30s"},
		{"apply", "--server-side", "-k", "../../manifests/interception"},
		{"apply", "--server-side", "-k", "../../manifests/base"},
	} {
		if out := p.kubectl(ctx, "", args...); out.status != 0 {
			return fmt.Errorf("kubectl %s: %s", strings.Join(args, " "), out.stderr)
		}
	}
	return nil
}

// identify writes a kubeconfig with a token of one of Berth's own ServiceAccounts, under its name.
func (p *plane) identify(ctx context.Context, account string) error {
	token, err := p.clientset.CoreV1().ServiceAccounts(v1alpha1.SystemNamespace).
		CreateToken(ctx, account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("ask for a token of ServiceAccount '%s': %w", account, err)
	}
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"it": {
			Server: "https://" + strings.TrimPrefix(p.config.Host, "https://"), CertificateAuthorityData: p.config.CAData,
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"it": {Token: token.Status.Token}},
		Contexts:       map[string]*clientcmdapi.Context{"it": {Cluster: "it", AuthInfo: "it"}},
		CurrentContext: "it",
	}, p.path(account))
}

func (p *plane) path(name string) string { return filepath.Join(p.dir, name) }

// stop ends every process.
func (p *plane) stop() error {
	var errs []error
	if p.berth != nil {
		errs = append(errs, p.berth.stop())
	}
	if p.env != nil {
		errs = append(errs, p.env.Stop())
	}
	if p.front != nil {
		errs = append(errs, p.front.Close())
	}
	if p.watchdog != nil {
		errs = append(errs, p.watchdog.Close())
	}
	return errors.Join(errs...)
}

// tails is the end of every log.
func (p *plane) tails() string {
	const lines = 30
	var b strings.Builder
	for name, log := range p.logs {
		all := strings.SplitAfter(log.String(), "\n")
		fmt.Fprintf(&b, "--- %s\n%s", name, strings.Join(all[max(0, len(all)-lines):], ""))
	}
	return b.String()
}

// output is what a program said.
type output struct {
	stdout, stderr string
	status         int
}

// kubectl runs the real kubectl as the administrator.
func (p *plane) kubectl(ctx context.Context, stdin string, args ...string) output {
	cmd := exec.CommandContext(ctx, filepath.Join(p.programs, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+p.path("admin.kubeconfig"), "HOME="+p.dir)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := output{stdout: stdout.String(), stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}
	if err != nil && cmd.ProcessState == nil {
		out.stderr, out.status = err.Error(), -1
	}
	return out
}

// watch ends the children of this process where it ends before it could, in a
// panic or by a signal: the watchdog's standard input closes with this process.
func watch(ctx context.Context) (io.Closer, error) {
	me := strconv.Itoa(os.Getpid())
	children, err := exec.CommandContext(ctx, "ps", "-o", "pid=", "--ppid", me).Output()
	if err != nil {
		return nil, fmt.Errorf("list the processes that were started: %w", err)
	}
	script := `cat >/dev/null; for pid; do [ "$(ps -o ppid= -p $pid | tr -d ' ')" != "$0" ] && kill -KILL $pid 2>/dev/null; done; true`
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "sh", append([]string{"-c", script, me}, strings.Fields(string(children))...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	return closer(func() error {
		return errors.Join(cmd.Process.Kill(), stdin.Close(), ignoreExit(cmd.Wait()))
	}), nil
}

type closer func() error

func (c closer) Close() error { return c() }

func ignoreExit(err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil
	}
	return err
}

// lockedBuffer holds a log while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
