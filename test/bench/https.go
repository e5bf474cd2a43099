package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"berth.dev/berth/webhook"
)

const (
	// noop is where the server serves the handler that only decodes.
	noop = "/noop"
	// httpsRounds of turns × requestsPerTurn make the 99th percentile of a round the 10th slowest request of it.
	httpsRounds = 31
	// turns, within a round, are short, so that what else the machine does hits both sides of it.
	turns           = 10
	requestsPerTurn = 100
)

// overHTTPS measures what the API server sees: the whole way, through the
// server that the controller runs, with HTTP/2 as the API server speaks it.
func overHTTPS(ctx context.Context, out *results) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	w, err := cluster(1000, false)
	if err != nil {
		return err
	}
	c, err := serve(ctx, w)
	if err != nil {
		return err
	}
	for _, concurrency := range []int{1, 8, 32} {
		if err := c.compare(ctx, out, concurrency); err != nil {
			return err
		}
	}
	return nil
}

// apiServer is the one that asks.
type apiServer struct {
	client *http.Client
	base   string
	review []byte
}

// serve starts a webhook server, both handlers on it, and returns its client.
func serve(ctx context.Context, w *world) (*apiServer, error) {
	r, err := request(usual)
	if err != nil {
		return nil, err
	}
	review, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"}, Request: &r.AdmissionRequest,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the review: %w", err)
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	// It serves nothing: it has a certificate for 127.0.0.1, and a client that trusts it.
	pair := httptest.NewUnstartedServer(nil)
	pair.EnableHTTP2 = true
	pair.StartTLS()
	context.AfterFunc(ctx, pair.Close)
	server := ctrlwebhook.NewServer(ctrlwebhook.Options{Host: "127.0.0.1", Port: port, TLSOpts: []func(*tls.Config){
		func(c *tls.Config) {
			c.MinVersion = tls.VersionTLS12
			c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair.TLS.Certificates[0], nil }
		},
	}})
	server.Register(webhook.Path, &admission.Webhook{Handler: w.handler()})
	server.Register(noop, &admission.Webhook{Handler: admission.HandlerFunc(decodeAlone)})
	failed := make(chan error, 1)
	go func() { failed <- server.Start(ctx) }()
	c := &apiServer{client: pair.Client(), base: "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), review: review}
	return c, c.await(ctx, failed)
}

// await returns once both handlers answer as they should.
func (c *apiServer) await(ctx context.Context, failed <-chan error) error {
	return wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		select {
		case err := <-failed:
			return false, fmt.Errorf("serve the webhook: %w", err)
		default:
		}
		for path, patched := range map[string]bool{noop: false, webhook.Path: true} {
			answer, err := c.ask(ctx, path)
			if _, refused := errors.AsType[net.Error](err); refused {
				return false, nil // not listening yet
			}
			var review admissionv1.AdmissionReview
			if err := errors.Join(err, json.Unmarshal(answer, &review)); err != nil {
				return false, err
			}
			if r := review.Response; r == nil || !r.Allowed || (len(r.Patch) > 0) != patched {
				return false, fmt.Errorf("'%s' answers %s", path, answer)
			}
		}
		return true, nil
	})
}

// ask has one admission reviewed.
func (c *apiServer) ask(ctx context.Context, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(c.review))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
		return nil, fmt.Errorf("'%s' answers %s by %s", path, response.Status, response.Proto)
	}
	return answer, nil
}

// compare asks both handlers by turns, in short rounds.
func (c *apiServer) compare(ctx context.Context, out *results, concurrency int) error {
	percentiles := []int{50, 99}
	var took, took0, ratios [2][]float64
	for i := range httpsRounds + 1 {
		round, err := c.round(ctx, concurrency)
		if err != nil {
			return err
		}
		if i == 0 {
			continue // connections and pools warm up
		}
		for k, percent := range percentiles {
			ours, theirs := percentile(round[webhook.Path], percent), percentile(round[noop], percent)
			took[k], took0[k] = append(took[k], float64(ours)), append(took0[k], float64(theirs))
			ratios[k] = append(ratios[k], float64(ours)/float64(theirs))
		}
	}
	name := fmt.Sprintf("https-p99-at-%d", concurrency)
	out.ratio(name, median(ratios[1]), 1.5)
	for k, percent := range percentiles {
		out.detailf("p%d %v, of decode alone %v, ratio %.2f", percent,
			time.Duration(median(took[k])), time.Duration(median(took0[k])), median(ratios[k]))
	}
	return nil
}

// round returns how long each request of a round took, by path.
func (c *apiServer) round(ctx context.Context, concurrency int) (map[string][]time.Duration, error) {
	took := make(map[string][]time.Duration, 2)
	for i := range turns {
		paths := []string{webhook.Path, noop}
		if i%2 == 1 {
			slices.Reverse(paths)
		}
		for _, path := range paths {
			latencies, err := c.turn(ctx, path, concurrency)
			if err != nil {
				return nil, err
			}
			took[path] = append(took[path], latencies...)
		}
	}
	return took, nil
}

// turn returns how long each request of a turn took.
func (c *apiServer) turn(ctx context.Context, path string, concurrency int) ([]time.Duration, error) {
	took := make([]time.Duration, requestsPerTurn)
	group, ctx := errgroup.WithContext(ctx)
	for worker := range concurrency {
		group.Go(func() error {
			for i := worker; i < len(took); i += concurrency {
				start := time.Now()
				if _, err := c.ask(ctx, path); err != nil {
					return err
				}
				took[i] = time.Since(start)
			}
			return nil
		})
	}
	return took, group.Wait()
}

// freePort returns a port that nobody listens on; the webhook server cannot choose one itself.
func freePort(ctx context.Context) (int, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	address, ok := listener.Addr().(*net.TCPAddr)
	if err := listener.Close(); err != nil || !ok {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return address.Port, nil
}
