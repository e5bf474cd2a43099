package credential

import (
	"context"
	"errors"
	"sync"
	"time"

	"berth.dev/berth/bearer"
)

// ErrRefused is that the registry itself, which has no token service, refused
// the credential; it is not tried again before its time.
var ErrRefused = errors.New("the registry refused the credential")

// errUntold is an answer that says nothing about the credential.
var errUntold = errors.New("neither accepted nor refused")

// isRefusal reports whether the credential was refused, by whichever.
func isRefusal(err error) bool { return bearer.IsRefusal(err) || errors.Is(err, ErrRefused) }

const (
	// shortestWait and longestWait are how long a refused credential is not tried again.
	shortestWait = time.Second
	longestWait  = 5 * time.Minute
	// hope is how long after a refusal another version of the Secret is waited for, and hopeAgain how long
	// refusals after that raise no such hope again.
	hope      = time.Second
	hopeAgain = time.Minute
)

// standing is what came of a credential at a token service, or at a registry
// without one. The zero value is that of one that was never tried.
type standing struct {
	mu sync.Mutex
	// proven: the last that was said of it is that it is good.
	proven   bool
	accepted time.Time
	// doubtful: the last that was said of it, if anything was, is that it is not.
	doubtful bool
	// trying is closed when the one attempt of a credential that is not proven has ended; nil where none is on its way.
	trying chan struct{}
	// refusals in a row; before until there is no other attempt, but this error.
	refusals int
	until    time.Time
	err      error
	// doubted is when it was refused.
	doubted time.Time
}

// admit lets a credential be tried, and returns what takes the outcome. One that
// is not proven is tried by one at a time, and one that was refused not before its time.
func (s *standing) admit(ctx context.Context) (settle func(error), err error) {
	for {
		s.mu.Lock()
		switch {
		case s.proven:
			s.mu.Unlock()
			return s.settle, nil
		case time.Now().Before(s.until):
			defer s.mu.Unlock()
			return nil, s.err
		case s.trying == nil:
			ended := make(chan struct{})
			s.trying = ended
			s.mu.Unlock()
			return func(err error) { s.settle(err); s.leave(); close(ended) }, nil
		}
		ended := s.trying
		s.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// leave lets the next one try.
func (s *standing) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trying = nil
}

// settle takes what came of an attempt. An answer that has nothing to do with the credential changes nothing.
func (s *standing) settle(err error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.proven, s.accepted, s.doubtful = true, now, false
		s.refusals, s.until, s.err, s.doubted = 0, time.Time{}, nil, time.Time{}
	case errors.Is(err, errUntold):
		s.doubtful = false
	case isRefusal(err) && !now.Before(s.until): // of many that set out together one counts
		s.proven, s.doubtful, s.err = false, true, err
		s.until = now.Add(min(shortestWait<<min(s.refusals, 16), longestWait))
		s.refusals++
		s.raise(now)
	}
}

// doubt is for a refusal by the registry itself.
func (s *standing) doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raise(time.Now())
}

func (s *standing) raise(now time.Time) {
	if s.doubted.IsZero() || now.Sub(s.doubted) > hopeAgain {
		s.doubted = now
	}
}

// hoping reports whether it was refused so short a time ago that another version may be on its way.
func (s *standing) hoping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.doubted) < hope
}

// mistrust has it tried before it is used again, for it may be refused by now,
// unless it was accepted a moment ago: requests that an account may not make
// must not hold up all others.
func (s *standing) mistrust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.proven || time.Since(s.accepted) >= shortestWait {
		s.proven, s.doubtful = false, true
	}
}

func (s *standing) isDoubtful() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doubtful
}

func (s *standing) isProven() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proven
}
