package e2e_test

import (
	"context"
	"sync"

	"k8s.io/client-go/rest"
)

// warnings collects what the API server warns a client of.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

func (w *warnings) config(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.WarningHandlerWithContext = w
	return c
}
