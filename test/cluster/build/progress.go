package build

import (
	"fmt"
	"io"
	"os"
	"time"
)

// Progress tells on one writer how a build goes: a line that renews itself on
// a terminal, a line every ten seconds elsewhere.
type Progress struct {
	out      io.Writer
	terminal bool
	now      func() time.Time
	pause    func(time.Duration) <-chan time.Time
}

// Step is a component's place in the build.
type Step struct {
	Number, Of int
	Component  Component
}

// NewProgress tells progress on a file.
func NewProgress(out *os.File) *Progress {
	status, err := out.Stat()
	terminal := err == nil && status.Mode()&os.ModeCharDevice != 0
	return &Progress{out: out, terminal: terminal, now: time.Now, pause: time.After}
}

// Cached says that a component is there already.
func (p *Progress) Cached(s Step) {
	fmt.Fprintf(p.out, "[%d/%d] %s: cached\n", s.Number, s.Of, s.Component.Name)
}

// Building says that a component is being built, until the function that it
// returns is called with how the build ended.
func (p *Progress) Building(s Step) func(error) {
	begun, stop, stopped := p.now(), make(chan struct{}), make(chan struct{})
	p.line(s.building(0))
	go func() {
		defer close(stopped)
		p.renew(s, begun, stop)
	}()
	return func(err error) {
		close(stop)
		<-stopped
		outcome := "built in"
		if err != nil {
			outcome = "failed after"
		}
		p.line(fmt.Sprintf("[%d/%d] %s: %s %s", s.Number, s.Of, s.Component.Name, outcome, rounded(p.now().Sub(begun))))
		if p.terminal {
			fmt.Fprintln(p.out)
		}
	}
}

func (p *Progress) renew(s Step, begun time.Time, stop <-chan struct{}) {
	every := 10 * time.Second
	if p.terminal {
		every = time.Second
	}
	for {
		select {
		case <-stop:
			return
		case <-p.pause(every):
			p.line(s.building(p.now().Sub(begun)))
		}
	}
}

// line writes over the last line on a terminal and below it elsewhere.
func (p *Progress) line(text string) {
	if p.terminal {
		fmt.Fprintf(p.out, "\r\033[K%s", text)
		return
	}
	fmt.Fprintln(p.out, text)
}

// building reads "[3/9] kubernetes (etcd to kubectl): building, 2m10s so far
// (about 5m on two cores), 6 left".
func (s Step) building(elapsed time.Duration) string {
	name := s.Component.Name
	if s.Component.Holds != "" {
		name += " (" + s.Component.Holds + ")"
	}
	so := ""
	if elapsed > 0 {
		so = ", " + rounded(elapsed) + " so far"
	}
	return fmt.Sprintf("[%d/%d] %s: building%s (about %s on two cores), %d left",
		s.Number, s.Of, name, so, rounded(s.Component.Takes), s.Of-s.Number)
}

// rounded writes 5m instead of 5m0s.
func rounded(d time.Duration) string {
	if d >= time.Minute && d%time.Minute == 0 {
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.Round(time.Second).String()
}
