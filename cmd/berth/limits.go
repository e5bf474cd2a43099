package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"berth.dev/berth/proxy/forward"
	"berth.dev/berth/proxy/registry"
)

// limitOptions are the flags about what one client may take, and all of them.
type limitOptions struct {
	requests, requestsEach int
	tunnels, tunnelsEach   int
	headerBytes            int
	idle, stall, silence   time.Duration
}

func (o *limitOptions) add(flags *pflag.FlagSet) {
	flags.IntVar(&o.requests, "max-requests", 4096, "most requests for registries that have no whole answer yet, in each of both proxies; one more is answered with 429")
	flags.IntVar(&o.requestsEach, "max-requests-per-namespace", 1000, "most of them from one namespace")
	flags.IntVar(&o.tunnels, "max-tunnels", 10_000, "most tunnels and plain requests of the forward proxy at one time; one more is answered with 503")
	flags.IntVar(&o.tunnelsEach, "max-tunnels-per-namespace", 2000, "most of them from one namespace")
	flags.IntVar(&o.headerBytes, "max-header-bytes", 32<<10, "most bytes in the header of a request; one with more is answered with 431")
	flags.DurationVar(&o.idle, "idle-timeout", 2*time.Minute, "how long a client's connection may stand without a request")
	flags.DurationVar(&o.stall, "stall-timeout", 2*time.Minute, "how long a client may stand still within a body that it sends or takes; the whole may take as long as it takes")
	flags.DurationVar(&o.silence, "tunnel-idle-timeout", 10*time.Minute, "how long nothing may go through a tunnel that is not looked into")
}

// check refuses limits that would let nothing through, or everything.
func (o *limitOptions) check() error {
	for name, value := range map[string]int64{
		"max-requests": int64(o.requests), "max-requests-per-namespace": int64(o.requestsEach), "max-tunnels": int64(o.tunnels),
		"max-tunnels-per-namespace": int64(o.tunnelsEach), "max-header-bytes": int64(o.headerBytes),
		"idle-timeout": int64(o.idle), "stall-timeout": int64(o.stall), "tunnel-idle-timeout": int64(o.silence),
	} {
		if value <= 0 {
			return fmt.Errorf("'--%s' must be more than 0", name)
		}
	}
	return nil
}

// ofRegistry sets the limits of the reverse proxy.
func (o *limitOptions) ofRegistry(r registry.Options) registry.Options {
	r.MostInFlight, r.MostOfNamespace, r.Patience = o.requests, o.requestsEach, o.stall
	return r
}

// ofForward sets the limits of the forward proxy.
func (o *limitOptions) ofForward(f forward.Options) forward.Options {
	f.Limits = forward.Limits{
		Tunnels: o.tunnels, PerNamespace: o.tunnelsEach, Requests: o.requests, RequestsPerNamespace: o.requestsEach,
		HeaderBytes: o.headerBytes, Idle: o.idle, Patience: o.stall, Silence: o.silence,
	}
	return f
}
