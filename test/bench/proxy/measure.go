package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	gib = 1 << 30
	mib = 1 << 20
)

// proxies starts Berth and its peers; a peer that is not installed is left out, loudly.
func (s *stage) proxies(ctx context.Context) (map[string]*proxy, error) {
	ours, err := s.playBerth(ctx, s.registry)
	if err != nil {
		return nil, err
	}
	all := map[string]*proxy{"berth": ours}
	if s.wants("bare") {
		if all["bare"], err = s.playBare(ctx); err != nil {
			return nil, err
		}
	}
	for name, start := range map[string]func() (*proxy, error){
		"nginx":   func() (*proxy, error) { return s.playPeer(ctx, "nginx", nginxConf, "-p", s.folder, "-c") },
		"haproxy": func() (*proxy, error) { return s.playPeer(ctx, "haproxy", haproxyCfg, "-db", "-f") },
	} {
		if !s.wants(name) {
			continue
		}
		if _, err := find(name); err != nil {
			fmt.Fprintf(os.Stderr, "SKIPPED: %s is not installed; as root: apt-get install -y --no-install-recommends nginx-light haproxy\n", name)
			continue
		}
		if all[name], err = start(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// names are those of a map, in order.
func names[T any](all map[string]T) []string { return slices.Sorted(maps.Keys(all)) }

// blobs measures pulls of one large layer, one after the other.
func (s *stage) blobs(ctx context.Context, out *results) error {
	all, err := s.proxies(ctx)
	if err != nil {
		return err
	}
	for _, front := range []string{"plain", "tls"} {
		v, err := byTurns(s.rounds, names(all), func(name string, counts bool) (sample, error) {
			if !counts {
				return s.blob(ctx, all[name], front, 64*mib) // connections and pools warm up
			}
			return s.blob(ctx, all[name], front, 2*gib)
		})
		if err != nil {
			return err
		}
		tellBlobs(out, front, v)
	}
	for _, p := range all {
		p.process.end()
	}
	return nil
}

// blob pulls one.
func (s *stage) blob(ctx context.Context, p *proxy, front string, size int64) (sample, error) {
	return taken(p.process.cpu, mebis(), func() (outcome, error) {
		return s.client(ctx, p.url(front)+blobPath(size), p.user, p.password)
	})
}

func (p *proxy) url(front string) string {
	if front == "tls" {
		return p.tls
	}
	return p.plain
}

func tellBlobs(out *results, front string, v values) {
	for _, peer := range []struct {
		name     string
		bar, aim float64
	}{{"bare", 1, 0}, {"nginx", 1, 0}, {"haproxy", 0.8, 1}} {
		if v.has(peer.name) {
			out.atLeast("blob-"+front+"-to-"+peer.name, v.ratio("berth", peer.name), peer.bar, peer.aim)
			out.detailf("berth %.0f MiB/s, %s %.0f MiB/s", median(v.done["berth"]), peer.name, median(v.done[peer.name]))
		}
	}
	if v.has("bare") {
		out.atMost("blob-"+front+"-cpu-to-bare", ratio(v.cost["berth"], v.cost["bare"]), 1, 0)
		out.detailf("berth %.2f s/GiB, bare %.2f s/GiB", 1024*median(v.cost["berth"]), 1024*median(v.cost["bare"]))
	}
	if v.has("haproxy") {
		out.aim("blob-"+front+"-cpu-to-haproxy", ratio(v.cost["berth"], v.cost["haproxy"]), 1.2)
		out.detailf("haproxy %.2f s/GiB", 1024*median(v.cost["haproxy"]))
	}
}

// http2 measures a client that speaks HTTP/2 to Berth beside one that does not. There is no bar.
func (s *stage) http2(ctx context.Context, out *results) error {
	ours, err := s.playBerth(ctx, s.registry)
	if err != nil {
		return err
	}
	defer ours.process.end()
	args := map[string][]string{"HTTP/2": {"-http2"}, "HTTP/1.1": nil}
	v, err := byTurns(s.rounds, names(args), func(name string, _ bool) (sample, error) {
		return taken(ours.process.cpu, mebis(), func() (outcome, error) {
			return s.client(ctx, ours.tls+blobPath(gib/2), ours.user, ours.password, args[name]...)
		})
	})
	if err != nil {
		return err
	}
	out.detailf("HTTP/2 %.0f MiB/s, HTTP/1.1 %.0f MiB/s: %.2f (no bar)", median(v.done["HTTP/2"]), median(v.done["HTTP/1.1"]), v.ratio("HTTP/2", "HTTP/1.1"))
	return nil
}

// manifests measures small answers at 16 connections.
func (s *stage) manifests(ctx context.Context, out *results) error {
	all, err := s.proxies(ctx)
	if err != nil {
		return err
	}
	v, err := byTurns(2*s.rounds, names(all), func(name string, _ bool) (sample, error) {
		return taken(all[name].process.cpu, requests(), func() (outcome, error) {
			return s.client(ctx, all[name].plain+repository+"/manifests/v1", all[name].user, all[name].password, "-connections", "16", "-for", "800ms")
		})
	})
	if err != nil {
		return err
	}
	if v.has("bare") {
		out.atLeast("manifest-to-bare", v.ratio("berth", "bare"), 0.95, 1.1)
		out.detailf("berth %.0f req/s, bare %.0f req/s", median(v.done["berth"]), median(v.done["bare"]))
	}
	for _, peer := range []string{"nginx", "haproxy"} {
		if v.has(peer) {
			out.aim("manifest-to-"+peer, v.ratio("berth", peer), 0.8)
			out.detailf("%s %.0f req/s", peer, median(v.done[peer]))
		}
	}
	for _, p := range all {
		p.process.end()
	}
	return nil
}

// tokens measures a registry that spends 100 ms on each password, against a client that shows it the password on every request.
func (s *stage) tokens(ctx context.Context, out *results) error {
	ours, err := s.playBerth(ctx, s.tokenRegistry)
	if err != nil {
		return err
	}
	defer ours.process.end()
	sides := map[string]struct{ url, user, password string }{
		"berth": {ours.plain, ours.user, ours.password}, "basic": {"https://" + s.tokenRegistry + "/v2/", username, password},
	}
	v, err := byTurns(s.rounds, names(sides), func(name string, _ bool) (sample, error) {
		side := sides[name]
		return taken(ours.process.cpu, requests(), func() (outcome, error) {
			return s.client(ctx, side.url+repository+"/manifests/v1", side.user, side.password, "-connections", "16", "-for", "1s")
		})
	})
	if err != nil {
		return err
	}
	out.atLeast("token-to-basic", v.ratio("berth", "basic"), 20, 0)
	out.detailf("berth %.0f req/s, Basic on every request %.0f req/s", median(v.done["berth"]), median(v.done["basic"]))
	return nil
}

// memory measures what a pull holds while its client takes its time.
func (s *stage) memory(ctx context.Context, out *results) error {
	for _, front := range []string{"plain", "tls"} {
		if err := s.memoryOf(ctx, out, front); err != nil {
			return err
		}
	}
	return nil
}

// pulls are as many clients as hold a pull open.
const pulls = 500

// memoryOf measures processes that have served nothing else: ours, and for readers a bare proxy.
func (s *stage) memoryOf(ctx context.Context, out *results, front string) error {
	const bar = 64 << 10
	ours, err := s.playBerth(ctx, s.registry)
	if err != nil {
		return err
	}
	defer ours.process.end()
	bare, err := s.playBare(ctx)
	if err != nil {
		return err
	}
	defer bare.process.end()
	each, err := s.memoryOfPull(ctx, ours, front)
	if err != nil {
		return err
	}
	eachBare, err := s.memoryOfPull(ctx, bare, front)
	if err != nil {
		return err
	}
	out.atMost("memory-"+front+"-to-64KiB-a-pull", each/bar, 1, 0)
	out.detailf("berth %.0f KiB, bare %.0f KiB, of %d pulls", each/1024, eachBare/1024, pulls)
	return s.goroutines(ctx, out, ours, front)
}

// memoryOfPull returns how many bytes one pull holds of the proxy's memory.
func (s *stage) memoryOfPull(ctx context.Context, p *proxy, front string) (float64, error) {
	if _, err := s.client(ctx, p.url(front)+repository+"/manifests/v1", p.user, p.password, "-connections", "16", "-requests", "200"); err != nil {
		return 0, err
	}
	idle, err := p.process.settled()
	if err != nil {
		return 0, err
	}
	slow, err := s.hold(ctx, p.url(front)+blobPath(gib), p, pulls)
	if err != nil {
		return 0, err
	}
	busy, err := p.process.settled()
	return float64(busy-idle) / pulls, errors.Join(err, slow.end())
}

// goroutines measures whether pulls that were broken off leave any behind.
func (s *stage) goroutines(ctx context.Context, out *results, p *proxy, front string) error {
	before, err := p.quiet(ctx, 0)
	if err != nil {
		return err
	}
	slow, err := s.hold(ctx, p.url(front)+blobPath(gib), p, pulls)
	if err != nil {
		return err
	}
	during, err := p.goroutines(ctx)
	if err := errors.Join(err, slow.end()); err != nil {
		return err
	}
	after, err := p.quiet(ctx, before)
	if err != nil {
		return err
	}
	out.atMost("goroutines-"+front+"-after-to-before", float64(after)/float64(before), 1.1, 0)
	out.detailf("idle %d, with %d pulls %d, after %d", before, pulls, during, after)
	return nil
}

// quiet waits until the goroutines are as few as before, for some seconds, and returns how many there are.
func (p *proxy) quiet(ctx context.Context, before int) (now int, err error) {
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		if now, err = p.goroutines(ctx); err != nil || now <= before {
			return now, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return now, nil
}

// goroutines reads how many there are from the metrics.
func (p *proxy) goroutines(ctx context.Context) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.metrics, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }() // it was read
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			return strconv.Atoi(value)
		}
	}
	return 0, errors.New("the metrics tell no goroutines")
}
