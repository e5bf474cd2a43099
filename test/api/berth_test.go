package api_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const controllerAccount = "berth-controller"

// configurationFile is where it stands.
const configurationFile = "configuration.yaml"

// configuration has a proxy and files, for those Pods that ask for them.
const configuration = `
apiVersion: connectors.berth.dev/v1alpha1
kind: Configuration
proxy: {address: "berth-proxy.berth-system.svc:3128", noProxy: [10.0.0.0/24]}
files: {enabled: true}
`

// process is `berth controller`.
type process struct {
	program string
	args    []string
	env     []string
	port    int    // of the webhook
	health  string // address
	log     *lockedBuffer

	cmd  *exec.Cmd
	done chan struct{}
}

// startBerth builds it as it is in the working tree, and starts it.
func (p *plane) startBerth(ctx context.Context) error {
	program, config := p.path("berth"), p.path(configurationFile)
	args := []string{"build", "-o", program}
	if raced() {
		args = append(args, "-race")
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, "../../cmd/berth")...).CombinedOutput(); err != nil {
		return fmt.Errorf("build berth: %w\n%s", err, out)
	}
	if err := os.WriteFile(config, []byte(configuration), 0o600); err != nil {
		return err
	}
	if err := p.identify(ctx, controllerAccount); err != nil {
		return err
	}
	webhook, health, err := freePorts(ctx)
	if err != nil {
		return err
	}
	p.berth = &process{
		program: program, port: webhook, health: "127.0.0.1:" + strconv.Itoa(health), log: p.logs["berth"],
		env: append(os.Environ(), "KUBECONFIG="+p.path(controllerAccount)),
	}
	p.berth.args = []string{
		"controller", "--config=" + config, "--webhook-port=" + strconv.Itoa(webhook),
		"--health-address=" + p.berth.health, "--metrics-address=0",
	}
	p.front.port.Store(int64(webhook))
	return p.berth.start(ctx)
}

// raced reports whether the tests run under the race detector; Berth does then, too.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// running reports whether the process was started and has not ended.
func (b *process) running() bool {
	if b.done == nil {
		return false
	}
	select {
	case <-b.done:
		return false
	default:
		return true
	}
}

// start starts the process, if it is not running, and returns once it is ready, as its readiness probe says.
func (b *process) start(ctx context.Context) error {
	if b.running() {
		return nil
	}
	if err := b.launch(ctx); err != nil {
		return err
	}
	return eventually(ctx, "berth to be ready", b.ready)
}

// launch starts the process.
func (b *process) launch(ctx context.Context) error {
	b.cmd = exec.CommandContext(context.WithoutCancel(ctx), b.program, b.args...)
	b.cmd.Env, b.cmd.Stderr, b.cmd.Stdout = b.env, b.log, b.log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	b.done = make(chan struct{})
	if err := b.cmd.Start(); err != nil {
		close(b.done)
		return fmt.Errorf("start berth: %w", err)
	}
	go func() {
		defer close(b.done)
		_ = b.cmd.Wait() // how it ended is in its log and state
	}()
	return nil
}

// ready asks what the readiness probe does.
func (b *process) ready(ctx context.Context) error {
	if !b.running() {
		return fmt.Errorf("%w: it ended", errFinal)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.health+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{}).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// stop ends the process as kubelet does, and reports one that does not end well.
func (b *process) stop() error {
	if !b.running() {
		return nil
	}
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end berth: %w", err)
	}
	select {
	case <-b.done:
	case <-time.After(patience):
		_ = b.cmd.Process.Kill()
		<-b.done
		return errors.New("berth had to be killed: it did not end on SIGTERM")
	}
	if status := b.cmd.ProcessState.ExitCode(); status != 0 {
		return fmt.Errorf("berth ended with status %d", status)
	}
	return nil
}

// freePorts finds two ports that nobody listens on.
func freePorts(ctx context.Context) (a, b int, err error) {
	var ports [2]int
	for i := range ports {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return 0, 0, err
		}
		defer func() { _ = l.Close() }()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports[0], ports[1], nil
}
