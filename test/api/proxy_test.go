package api_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"
)

// TestProxyIsReady: once `berth proxy` says that it is ready, it listens everywhere, and it was asked for that.
func TestProxyIsReady(t *testing.T) {
	w := enter(t)
	const account = "berth-proxy"
	w.ok(w.identify(w.ctx, account))
	var addresses []string
	for range 2 {
		a, b, err := freePorts(w.ctx)
		w.ok(err)
		addresses = append(addresses, "127.0.0.1:"+strconv.Itoa(a), "127.0.0.1:"+strconv.Itoa(b))
	}
	proxy := &process{
		program: w.berth.program, log: w.logs["berth"], env: append(os.Environ(), "KUBECONFIG="+w.path(account)), health: addresses[3],
		args: []string{
			"proxy", "--registry-address=" + addresses[0], "--http-address=" + addresses[1], "--forward-address=" + addresses[2],
			"--health-address=" + addresses[3], "--metrics-address=0", "--leave=0s",
		},
	}
	defer func() { w.ok(proxy.stop()) }()
	w.ok(proxy.start(w.ctx))
	for _, address := range addresses {
		conn, err := (&net.Dialer{}).DialContext(w.ctx, "tcp", address)
		w.ok(err)
		w.ok(conn.Close())
	}
	for _, condition := range []string{"registries-listen", "forward-listens"} {
		w.ok(eventually(w.ctx, condition, func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+proxy.health+"/readyz/"+condition, nil)
			if err != nil {
				return err
			}
			response, err := (&http.Client{}).Do(request)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return errors.New(response.Status)
			}
			return nil
		}))
	}
}
