package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
)

// intercepted returns a part that measures what the forward proxy intercepts, beside others that do.
func (s *stage) intercepted(measure func(*comparison, context.Context) error) func(context.Context, *results) error {
	return func(ctx context.Context, out *results) error {
		all, err := s.interceptors(ctx)
		if err != nil {
			return err
		}
		err = measure(&comparison{stage: s, all: all, out: out}, ctx)
		for _, i := range all {
			if i.process != nil {
				i.process.end()
			}
		}
		return err
	}
}

// comparison is one of interceptors, by turns.
type comparison struct {
	*stage
	all []*interceptor
	out *results
}

// by measures rounds of what a client does by each of the proxies.
func (m *comparison) by(ctx context.Context, rounds int, skip []string, u unit, url string, args ...string) (values, error) {
	proxies := map[string]*interceptor{}
	var names []string
	for _, i := range m.all {
		if !slices.Contains(skip, i.name) {
			proxies[i.name] = i
			names = append(names, i.name)
		}
	}
	return byTurns(rounds, names, func(name string, _ bool) (sample, error) {
		return taken(proxies[name].cpu, u, func() (outcome, error) {
			return m.client(ctx, url, "", "", slices.Concat(proxies[name].arguments(), args)...)
		})
	})
}

// bar is what a ratio to a peer must reach.
type bar struct {
	peer       string
	least, aim float64
}

// tell prints the ratios to the peers that were measured, and what stands behind them.
func (m *comparison) tell(name string, u unit, v values, bars ...bar) {
	for _, b := range bars {
		switch {
		case !v.has(b.peer):
		case b.least == 0:
			m.out.aim(name+"-to-"+b.peer, v.ratio("berth", b.peer), b.aim)
		default:
			m.out.atLeast(name+"-to-"+b.peer, v.ratio("berth", b.peer), b.least, b.aim)
		}
	}
	for _, i := range m.all {
		if v.has(i.name) {
			m.out.detailf("%s %.0f %s/s, at %.0f µs of the processors a %s", i.name, median(v.done[i.name]), u.name, 1e6*median(v.cost[i.name]), u.name)
		}
	}
}

// smalls are small answers within tunnels that stand.
func (m *comparison) smalls(ctx context.Context) error {
	v, err := m.by(ctx, 2*m.rounds, nil, requests(), m.small(), "-connections", "16", "-for", "800ms")
	m.tell("intercept", requests(), v, bar{"goproxy", 2, 0}, bar{"goproxy-pooled", 0, 1}, bar{"squid", 1.5, 0})
	return err
}

// small is the URL of an answer that fits a TLS record.
func (m *comparison) small() string {
	return "https://" + m.target() + "/v2/" + repository + "/manifests/v1"
}

// connections have a handshake for each request.
func (m *comparison) connections(ctx context.Context) error {
	v, err := m.by(ctx, 2*m.rounds, nil, requests(), m.small(), "-connections", "16", "-for", "800ms", "-fresh")
	m.tell("intercept-connection", requests(), v, bar{"squid", 1.5, 0})
	return err
}

func (m *comparison) gets(ctx context.Context) error {
	v, err := m.by(ctx, m.rounds, []string{"mitmproxy", "goproxy-pooled"}, mebis(), "https://"+m.target()+"/v2/"+blobPath(2*gib)) // a minute each
	m.tell("intercept-get", mebis(), v, bar{"goproxy", 1.25, 1.6}, bar{"direct", 0, 0.6})
	return err
}

func (m *comparison) puts(ctx context.Context) error {
	v, err := m.by(ctx, m.rounds, []string{"mitmproxy", "goproxy-pooled", "squid"}, mebis(), "https://"+m.target()+"/v2/"+uploadPath, "-put", strconv.Itoa(2*gib))
	m.tell("intercept-put", mebis(), v, bar{"direct", 0, 0.8})
	return err
}

// tunnelsStanding are as many tunnels at rest as are measured.
const tunnelsStanding = 5000

// blindTunnels measures what goes through Berth untouched, beside a relay that does nothing else.
func (s *stage) blindTunnels(ctx context.Context, out *results) error {
	ours, err := s.interceptByBerth(ctx)
	if err != nil {
		return err
	}
	defer ours.process.end()
	if err := s.restingTunnels(ctx, out, ours); err != nil {
		return err
	}
	bare, err := s.intercept(ctx, "relay", func(address string) (*process, error) {
		return s.start(ctx, s.self, "relay", "-address", address, "-to", s.plainRegistry)
	})
	if err != nil {
		return err
	}
	defer bare.process.end()
	to := "/v2/" + blobPath(2*gib)
	sides := map[string][]string{"berth": {"http://" + s.plainRegistry + to, "-proxy", ours.url, "-tunnel", s.plainRegistry}, "relay": {bare.url + to}}
	v, err := byTurns(s.rounds, names(sides), func(name string, _ bool) (sample, error) {
		return taken(ours.cpu, mebis(), func() (outcome, error) {
			return s.client(ctx, sides[name][0], username, password, sides[name][1:]...)
		})
	})
	if err != nil {
		return err
	}
	out.atLeast("tunnel-to-relay", v.ratio("berth", "relay"), 0.95, 0)
	out.detailf("berth %.0f MiB/s, relay %.0f MiB/s", median(v.done["berth"]), median(v.done["relay"]))
	return nil
}

// restingTunnels measures what a tunnel holds of memory while nothing goes through it.
func (s *stage) restingTunnels(ctx context.Context, out *results, ours *interceptor) error {
	const bar = 24 << 10
	tunnels := func(count int) (*held, error) {
		return s.holdBy(ctx, s.clientArgs("", "", "", "-proxy", ours.url, "-tunnel", s.plainRegistry, "-idle", "-connections", strconv.Itoa(count)))
	}
	first, err := tunnels(16)
	if err != nil {
		return err
	}
	idle, err := ours.process.settled()
	if err := errors.Join(err, first.end()); err != nil {
		return err
	}
	all, err := tunnels(tunnelsStanding)
	if err != nil {
		return err
	}
	busy, err := ours.process.settled()
	each := float64(busy-idle) / tunnelsStanding
	out.atMost("tunnel-idle-to-24KiB", each/bar, 1, 0.6)
	out.detailf("berth %.1f KiB, of %d tunnels", each/1024, tunnelsStanding)
	return errors.Join(err, all.end())
}
