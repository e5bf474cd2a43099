package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"berth.dev/berth/test/cluster/layout"
	"berth.dev/berth/test/cluster/supervise"
)

const (
	patience = 60 * time.Second      // for any one component to become ready
	interval = 50 * time.Millisecond // between two looks
)

// await looks until the condition holds. It gives up when time is up and when
// the component that is to fulfil the condition has ended.
func await(ctx context.Context, child *supervise.Child, what string, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-child.Done():
			return fmt.Errorf("waiting for %s: it %s", what, child.Ended())
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s (%s at most): %w: %w", what, patience, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// probe asks servers whether they are ready.
type probe struct{ client *http.Client }

// newProbe makes a probe that authenticates as the cluster's administrator.
func newProbe(state layout.State) (*probe, error) {
	pair, err := tls.LoadX509KeyPair(state.PKI("admin.crt"), state.PKI("admin.key"))
	if err != nil {
		return nil, fmt.Errorf("reading the administrator's keys: %w", err)
	}
	roots := x509.NewCertPool()
	for _, file := range []string{state.PKI("ca.crt"), state.Harbor("ca.crt")} {
		ca, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the cluster's CAs: %w", err)
		}
		roots.AppendCertsFromPEM(ca)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}}
	return &probe{client: &http.Client{Transport: transport, Timeout: 2 * time.Second}}, nil
}

// get returns the body of the URL's answer, which must have the status.
func (p *probe) get(ctx context.Context, url string, status int) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "cluster-probe") // so that logs tell it apart
	response, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != status {
		return nil, fmt.Errorf("%s answered %s", url, response.Status)
	}
	return io.ReadAll(response.Body)
}

func (p *probe) answers(url string, status int) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := p.get(ctx, url, status)
		return err
	}
}

// nodeReady holds when the node's condition Ready is True.
func (p *probe) nodeReady(ctx context.Context) error {
	body, err := p.get(ctx, layout.APIServer+"/api/v1/nodes/"+layout.NodeName, http.StatusOK)
	if err != nil {
		return err
	}
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := json.Unmarshal(body, &node); err != nil {
		return fmt.Errorf("reading the node: %w", err)
	}
	for _, c := range node.Status.Conditions {
		if c.Type == "Ready" && c.Status == "True" {
			return nil
		}
		if c.Type == "Ready" {
			return errors.New(c.Message)
		}
	}
	return errors.New("the node has no condition Ready yet")
}

func listens(socket string) func(context.Context) error {
	return func(ctx context.Context) error {
		var dialer net.Dialer
		connection, err := dialer.DialContext(ctx, "unix", socket)
		if err != nil {
			return err
		}
		return connection.Close()
	}
}
