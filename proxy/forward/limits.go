package forward

import (
	"cmp"
	"time"
)

const (
	// headerTimeout bounds how long a client within an intercepted tunnel may take for the header of a request.
	headerTimeout = 10 * time.Second
	// mostHeader is how long that may be.
	mostHeader = 32 << 10
)

// Limits are what one client may take, and all of them. A limit that is 0 is that of DefaultLimits.
type Limits struct {
	// Tunnels and PerNamespace are how many tunnels and plain requests there may be at one time, in all and
	// for each namespace.
	Tunnels, PerNamespace int
	// Requests and RequestsPerNamespace are how many requests for registries may have no whole answer yet: with
	// HTTP/2 a tunnel has many.
	Requests, RequestsPerNamespace int
	// HeaderBytes is how long the header of a request within an intercepted tunnel may be.
	HeaderBytes int
	// Idle is how long an intercepted tunnel may stand without a request.
	Idle time.Duration
	// Patience is how long a client may stand still within a body.
	Patience time.Duration
	// Silence is how long nothing may go through any other tunnel.
	Silence time.Duration
}

// DefaultLimits are those of a proxy that is told nothing else.
func DefaultLimits() Limits {
	return Limits{
		Tunnels: 10_000, PerNamespace: 2000, Requests: 4096, RequestsPerNamespace: 1000,
		HeaderBytes: mostHeader, Idle: 2 * time.Minute, Patience: 2 * time.Minute, Silence: 10 * time.Minute,
	}
}

func (l Limits) orDefaults() Limits {
	d := DefaultLimits()
	return Limits{
		Tunnels: cmp.Or(l.Tunnels, d.Tunnels), PerNamespace: cmp.Or(l.PerNamespace, d.PerNamespace),
		Requests: cmp.Or(l.Requests, d.Requests), RequestsPerNamespace: cmp.Or(l.RequestsPerNamespace, d.RequestsPerNamespace),
		HeaderBytes: cmp.Or(l.HeaderBytes, d.HeaderBytes), Idle: cmp.Or(l.Idle, d.Idle), Patience: cmp.Or(l.Patience, d.Patience), Silence: cmp.Or(l.Silence, d.Silence),
	}
}
