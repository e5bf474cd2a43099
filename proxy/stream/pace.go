package stream

import "time"

const (
	// stretch is what must move within brisk for a pace to be fast: 16 MiB a second.
	stretch = 4 << 20
	brisk   = 250 * time.Millisecond
	// racing is within what it must move for a pace to be more than fast: 64 MiB a second.
	racing = brisk / 4
	// pause is how long bytes that move fast may stand still.
	pause = 100 * time.Millisecond
	// trickle is what must move after a pause for a stream not to be slow.
	trickle = 256 << 10
)

// pace says whether bytes move so fast that it pays to hold more of them. A
// stream has to earn that: thousands may be open to readers that are slow.
type pace struct {
	fast, faster bool
	slow         bool      // it stood still, and has not moved much since
	begun        time.Time // of the stretch
	last         time.Time
	bytes        int // within the stretch
}

// moved tells of bytes that have moved now.
func (p *pace) moved(n int, now time.Time) {
	if now.Sub(p.last) > pause {
		p.slow = !p.last.IsZero()
		p.fast, p.faster, p.begun, p.bytes = false, false, now, 0
	}
	p.last = now
	p.bytes += n
	p.slow = p.slow && p.bytes < trickle
	if p.bytes >= stretch {
		took := now.Sub(p.begun)
		p.fast, p.faster = took <= brisk, took <= racing
		p.begun, p.bytes = now, 0
	}
}

// Deadline is that of a connection for reads or writes. To set one costs more
// than many a read, so one that moves on with each is moved now and then.
type Deadline struct{ at time.Time }

// Move returns the deadline that is to be set now, for what may take so long
// from now on, 0 for ever; ok is false where the one that stands will do: it
// leaves at least three quarters of that time.
func (d *Deadline) Move(now time.Time, by time.Duration) (at time.Time, ok bool) {
	if by == 0 {
		ok = !d.at.IsZero()
		d.at = time.Time{}
		return d.at, ok
	}
	if left := d.at.Sub(now); left <= by && left >= by*3/4 {
		return d.at, false
	}
	d.at = now.Add(by)
	return d.at, true
}
