// Command proxy measures Berth's proxies beside what people would use in their
// place. The registry reverse proxy: a bare httputil.ReverseProxy, nginx and
// haproxy. The forward proxy (-suite forward): goproxy's own interception, squid
// and mitmproxy, and for what is not intercepted a bare relay. All have
// the same duty: they add a fixed Basic header and go to a registry over TLS
// whose certificate they verify; nginx and squid write an access log, as Berth does. Berth checks a token and asks the access
// rules besides.
//
// The registry, the client and each proxy are processes of their own on
// loopback; this program plays all but the proxies that it measures (see role).
// What is compared is measured by turns, so that what else the machine does hits
// all, and the median of the rounds' ratios counts.
//
//	ratio blob-plain-to-bare 1.07 (bar 1.00)
//	      berth 1032 MiB/s, bare 961 MiB/s
//
// A bar must hold; an aim is what the best would reach.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if len(os.Args) > 1 {
		if play, ok := roles()[os.Args[1]]; ok {
			return play(ctx, os.Args[2:])
		}
	}
	berth := flag.String("berth", "bin/berth", "the program that is measured")
	distribution := flag.String("distribution", "", "the program of Distribution, for what is measured with it")
	suite := flag.String("suite", "registry", "what is measured: the 'registry' proxy, or the 'forward' proxy")
	only := flag.String("only", "", "measure only this: memory, blob, manifest, token or http2; of the forward proxy: check, tunnel, small, connection, get, put or layer")
	beside := flag.String("beside", "", "leave out all peers but this")
	rounds := flag.Int("rounds", 5, "rounds of each comparison")
	flag.Parse()
	if done, err := isolate(ctx); done || err != nil {
		return err
	}
	s, err := newStage(ctx, *berth, *rounds, *beside)
	if err != nil {
		return err
	}
	defer s.clear()
	s.distribution = *distribution
	r := &results{}
	for _, part := range s.suite(*suite) {
		if *only != "" && *only != part.name {
			continue
		}
		if err := part.measure(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return r.verdict()
}

// part is something to measure.
type part struct {
	name    string
	measure func(context.Context, *results) error
}

func (s *stage) suite(name string) []part {
	if name == "forward" {
		return []part{
			{"check", s.tokenChecks},
			{"tunnel", s.blindTunnels},
			{"small", s.intercepted((*comparison).smalls)},
			{"connection", s.intercepted((*comparison).connections)},
			{"get", s.intercepted((*comparison).gets)},
			{"put", s.intercepted((*comparison).puts)},
			{"layer", s.layers},
		}
	}
	return []part{{"memory", s.memory}, {"blob", s.blobs}, {"manifest", s.manifests}, {"token", s.tokens}, {"http2", s.http2}}
}

// roles are the parts that this program plays in processes of their own.
func roles() map[string]func(context.Context, []string) error {
	return map[string]func(context.Context, []string) error{
		"registry": playRegistry, "bare": playBare, "client": playClient, "mitm": playMITM, "relay": playRelay,
	}
}

// collectSeldom is for both ends of what is measured: what they do beside should not be.
func collectSeldom() { debug.SetGCPercent(1000) }
