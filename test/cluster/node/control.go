package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth.dev/berth/test/cluster/layout"
)

// serveControl answers on a socket that exists in the node's mount namespace
// alone: GET /status, POST /harbor/stop, POST /harbor/start, POST /restart/NAME.
func (n *node) serveControl() error {
	old := unix.Umask(0o077) // for root alone
	listener, err := net.Listen("unix", layout.ControlSocket)
	unix.Umask(old)
	if err != nil {
		return fmt.Errorf("opening the node's control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, n.family.States()) })
	mux.HandleFunc("POST /harbor/stop", command(func(context.Context) error { return n.family.Kill(Harbor, patience) }))
	mux.HandleFunc("POST /harbor/start", command(n.startHarbor))
	mux.HandleFunc("POST /restart/{name}", func(w http.ResponseWriter, r *http.Request) {
		command(func(context.Context) error { return n.restart(r.PathValue("name")) })(w, r)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener) //nolint:errcheck // lives and ends with the process
	return nil
}

func (n *node) startHarbor(ctx context.Context) error {
	child, err := n.family.Start(n.setup.spec(Harbor))
	if err != nil {
		return err
	}
	return await(ctx, child, Harbor, n.probe.answers("https://"+layout.HarborName+"/v2/", http.StatusUnauthorized))
}

// restart ends a component, which must run, with SIGKILL, and starts it again.
func (n *node) restart(name string) error {
	if err := n.family.Kill(name, patience); err != nil {
		return err
	}
	_, err := n.family.Start(n.setup.spec(name))
	return err
}

func command(run func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := run(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	}
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// Control asks a node for something.
type Control struct{ client *http.Client }

// Connect finds the control socket below the root of the node's file system:
// "/" from inside, /proc/PID/root from outside.
func Connect(root string) Control {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", filepath.Join(root, layout.ControlSocket))
	}
	return Control{client: &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 2 * patience}}
}

// States says of each component that it runs, or how it ended.
func (c Control) States(ctx context.Context) (map[string]string, error) {
	body, err := c.ask(ctx, http.MethodGet, "/status")
	if err != nil {
		return nil, err
	}
	states := map[string]string{}
	if err := json.Unmarshal(body, &states); err != nil {
		return nil, fmt.Errorf("reading the state of the components: %w", err)
	}
	return states, nil
}

// StopHarbor ends the upstream with SIGKILL and returns when it is gone.
func (c Control) StopHarbor(ctx context.Context) error {
	_, err := c.ask(ctx, http.MethodPost, "/harbor/stop")
	return err
}

// StartHarbor starts the upstream and returns when it answers.
func (c Control) StartHarbor(ctx context.Context) error {
	_, err := c.ask(ctx, http.MethodPost, "/harbor/start")
	return err
}

// Restart ends a component with SIGKILL and starts it again.
func (c Control) Restart(ctx context.Context, name string) error {
	_, err := c.ask(ctx, http.MethodPost, "/restart/"+url.PathEscape(name))
	return err
}

func (c Control) ask(ctx context.Context, method, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://node"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("asking the node: %w", err)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the node: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("asking the node: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the node: %s", strings.TrimSpace(string(body)))
	}
	return body, nil
}
