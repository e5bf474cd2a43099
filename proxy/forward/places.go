package forward

import "sync"

// places are how many tunnels, or requests within them, there may be at one time, in all and for each namespace.
type places struct {
	most, each int

	mu          sync.Mutex
	taken       int
	byNamespace map[string]int
}

func newPlaces(most, each int) *places {
	return &places{most: most, each: each, byNamespace: map[string]int{}}
}

// take takes a place, if there is one; give gives it back.
func (p *places) take(namespace string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken >= p.most || p.byNamespace[namespace] >= p.each {
		return false
	}
	p.taken++
	p.byNamespace[namespace]++
	return true
}

func (p *places) inUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

func (p *places) give(namespace string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.byNamespace[namespace]--; p.byNamespace[namespace] == 0 {
		delete(p.byNamespace, namespace)
	}
}
