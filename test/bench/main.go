// Command bench measures Berth's admission against its bars: by how much it may
// cost more than a webhook that only decodes the Pod and allows it, how that
// grows with the number of Connectors and of containers, and the memory that a
// large cluster takes; and a node's volumes: what it takes to publish one, and
// to have many.
//
// A bar is a ratio of two things measured in the same run by turns, so that a
// slow or busy machine slows both. Absolute times stand beside it for readers;
// nothing is decided by them.
//
//	ratio handle-time 1.31 (bar 1.50)
//	      handle 142µs, decode alone 108µs
//
// Arguments name the measures that are wanted: memory, handle, connectors,
// containers, https, publish, volumes. Without any, all are taken. The last two need root.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	ctrl.SetLogger(logr.Discard())
	if len(names) > 0 && names[0] == nodeArgument {
		return beNode(ctx, names[1:])
	}
	r := &results{}
	// Memory first: it is measured against a heap that nothing else has grown.
	for _, m := range []struct {
		name string
		take func(context.Context, *results) error
	}{{"memory", memory}, {"handle", handle}, {"connectors", connectors}, {"containers", containers}, {"https", overHTTPS}, {"publish", publish}, {"volumes", volumesOfNode}} {
		if len(names) > 0 && !slices.Contains(names, m.name) {
			continue
		}
		if err := m.take(ctx, r); err != nil {
			return err
		}
	}
	return r.verdict()
}

// results prints what is measured, and remembers which bars were missed.
type results struct {
	missed []string
}

// ratio prints a value that may not pass its bar.
func (r *results) ratio(name string, value, bar float64) {
	fmt.Printf("ratio %s %.2f (bar %.2f)\n", name, value, bar)
	if !(value <= bar) { // a NaN misses too
		r.missed = append(r.missed, name)
	}
}

// note prints a ratio that has no bar.
func (r *results) note(name string, value float64) {
	fmt.Printf("ratio %s %.2f (no bar)\n", name, value)
}

// detailf prints the absolute values behind a ratio.
func (r *results) detailf(format string, args ...any) {
	fmt.Printf("      "+format+"\n", args...)
}

func (r *results) verdict() error {
	if len(r.missed) > 0 {
		return fmt.Errorf("missed: %v", r.missed)
	}
	return nil
}
