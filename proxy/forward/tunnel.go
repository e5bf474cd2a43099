package forward

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"berth.dev/berth/proxy/identity"
)

const (
	// sip is what a tunnel at rest holds for each direction: enough for most of what is said in a dialogue.
	sip = 1 << 10
	// lull is how long a direction that was busy keeps what moves bytes fast.
	lull = time.Second
	// restless is how long a tunnel must be silent to be closed while the proxy ends.
	restless = 5 * time.Second
	// recheck is how often the tokens of tunnels are looked at.
	recheck = 2 * time.Second
)

// halfCloser is a connection that can say that nothing more will come; *net.TCPConn is one.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// tunnel carries bytes between two connections. At rest it is two goroutines
// with a buffer of a sip each; once more comes than that, the kernel moves the
// bytes (splice), with a pipe that is given back in the next lull.
type tunnel struct {
	visit       *visit
	client, far net.Conn
	silence     time.Duration
	sent, got   atomic.Int64
	moved       atomic.Int64 // when bytes last came, in nanoseconds
	left        atomic.Int32 // directions that are still open
	reason      atomic.Pointer[string]
	ended       func()
}

// tunnel leads the visit to a target that has no Connector's credential.
func (v *visit) tunnel(client net.Conn) {
	far, err := v.Egress.Open(v.request.Context(), v.Policy(v.caller.Namespace), v.target)
	if err != nil {
		v.turnAway(client, unopened(v.target, err))
		return
	}
	client, begun := begin(client, far)
	if !begun {
		_ = far.Close()
		v.turnAway(client, nil)
		return
	}
	t := &tunnel{visit: v, client: client, far: far, silence: v.Silence}
	t.left.Store(2)
	t.touch()
	if t.ended = v.tunnels.add(t); t.ended == nil {
		_ = far.Close()
		v.turnAway(client, &refusal{
			status: http.StatusServiceUnavailable, reason: ReasonEnding, after: 1, last: true,
			message: "this proxy ends, and makes no tunnels any more; try again, another one will",
		})
		return
	}
	if !reply(client, established) {
		_ = far.Close()
		t.ended()
		v.turnAway(client, nil)
		return
	}
	// Not in this goroutine, whose stack has grown.
	go t.direction(far, client, &t.sent)
	go t.direction(client, far, &t.got)
}

// begin sends on what the client has sent before its tunnel stood, and returns its bare connection, which the kernel can read.
func begin(client, far net.Conn) (bare net.Conn, ok bool) {
	early, ok := client.(*replaying)
	if !ok {
		return client, true
	}
	_ = far.SetWriteDeadline(time.Now().Add(replyTime))
	_, err := far.Write(early.early)
	return early.Conn, err == nil
}

func (t *tunnel) touch() { t.moved.Store(time.Now().UnixNano()) }

// still returns for how long nothing has come.
func (t *tunnel) still() time.Duration { return time.Since(time.Unix(0, t.moved.Load())) }

func (t *tunnel) closeSilent(than time.Duration) {
	if t.still() >= than {
		t.close()
	}
}

func (t *tunnel) close() {
	_ = t.client.Close()
	_ = t.far.Close()
}

// direction carries one direction to its end, and that on to the other side. The last one to end says so.
func (t *tunnel) direction(to, from net.Conn, count *atomic.Int64) {
	err := t.carry(to, from, count)
	if half, ok := to.(halfCloser); err == nil && ok {
		_ = half.CloseWrite()
	} else {
		if err != nil {
			t.because(err)
		}
		t.close()
	}
	if t.left.Add(-1) == 0 {
		t.close()
		t.ended()
		t.visit.leave()
		t.log()
	}
}

var errSilent = errors.New("nothing went through the tunnel for too long")

func (t *tunnel) because(err error) {
	reason := ReasonAborted
	if errors.Is(err, errSilent) {
		reason = ReasonSilent
	}
	t.reason.CompareAndSwap(nil, &reason)
}

// recheck closes the tunnel where its token is no good any more.
func (t *tunnel) recheck() {
	caller, err := t.visit.Identity.Verify(t.visit.token)
	if err == nil && caller.UID == t.visit.caller.UID {
		return
	}
	t.reason.CompareAndSwap(nil, new(unidentified(cmp.Or(err, identity.ErrNamespace)).reason))
	t.close()
}

// carry moves bytes until there are no more.
func (t *tunnel) carry(to, from net.Conn, count *atomic.Int64) error {
	buffer := make([]byte, sip)
	for {
		n, err := t.wait(from, buffer)
		if n > 0 {
			t.touch()
			_ = to.SetWriteDeadline(time.Now().Add(t.silence))
			if _, err := to.Write(buffer[:n]); err != nil {
				return err
			}
			count.Add(int64(n))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && n == len(buffer) {
			var whole bool
			if whole, err = t.rush(to, from, count); whole {
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// wait reads what comes next, and gives up once both directions were silent for too long.
func (t *tunnel) wait(from net.Conn, buffer []byte) (int, error) {
	for {
		_ = from.SetReadDeadline(time.Now().Add(t.silence - min(t.still(), t.silence-time.Millisecond)))
		n, err := from.Read(buffer)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if t.still() >= t.silence {
			return 0, errSilent
		}
	}
}

// rush lets the kernel move bytes as long as they come, and reports whether that was all of them.
func (t *tunnel) rush(to, from net.Conn, count *atomic.Int64) (whole bool, err error) {
	begun := time.Now()
	_ = from.SetReadDeadline(begun.Add(lull))
	_ = to.SetWriteDeadline(begun.Add(lull + t.silence))
	n, err := io.Copy(to, from)
	count.Add(n)
	t.touch()
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrDeadlineExceeded) && time.Since(begun) < lull+t.silence:
		return false, nil // it was the deadline for reading: nothing is lost
	default:
		return false, err
	}
}

// log writes the one line of a tunnel.
func (t *tunnel) log() {
	v := t.visit
	v.metrics.other(kindTunnel, http.StatusOK, t.sent.Load(), t.got.Load())
	now := v.Now()
	line := v.line(now, "forward tunnel", v.request.Method)
	line.Number(keyStatus, http.StatusOK)
	line.Number(keyBytesOut, t.got.Load())
	line.Number(keyBytesIn, t.sent.Load())
	line.Number(keyDuration, now.Sub(v.begun).Milliseconds())
	if reason := t.reason.Load(); reason != nil {
		line.Text(keyReason, *reason)
	}
	line.Write()
}

// tunnels are those that stand.
type tunnels struct {
	mu       sync.Mutex
	standing map[*tunnel]struct{}
	ending   chan struct{} // not nil: no more are added; closed when none is left
}

func newTunnels() *tunnels { return &tunnels{standing: map[*tunnel]struct{}{}} }

// add returns what is to be called when the tunnel has ended, or nil where there may be no more.
func (ts *tunnels) add(t *tunnel) (ended func()) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.ending != nil {
		return nil
	}
	ts.standing[t] = struct{}{}
	return func() {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		delete(ts.standing, t)
		if ts.ending != nil && len(ts.standing) == 0 {
			close(ts.ending)
		}
	}
}

// drain waits until the tunnels have ended, closes those that are silent, and all when the context ends.
func (ts *tunnels) drain(ctx context.Context) error {
	ts.mu.Lock()
	ts.ending = make(chan struct{})
	none := ts.ending
	if len(ts.standing) == 0 {
		close(none)
	}
	ts.mu.Unlock()
	ticks := time.NewTicker(lull)
	defer ticks.Stop()
	for {
		select {
		case <-none:
			return nil
		case <-ticks.C:
			ts.each(func(t *tunnel) { t.closeSilent(restless) })
		case <-ctx.Done():
			ts.each((*tunnel).close)
			return ctx.Err()
		}
	}
}

// recheck closes tunnels whose token is no good any more: it was revoked, its namespace is gone, or its time is over.
func (ts *tunnels) recheck(ended <-chan struct{}) {
	ticks := time.NewTicker(recheck)
	defer ticks.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ticks.C:
			ts.each((*tunnel).recheck)
		}
	}
}

func (ts *tunnels) each(do func(*tunnel)) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for t := range ts.standing {
		do(t)
	}
}
