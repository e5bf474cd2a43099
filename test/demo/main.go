// Command demo shows Berth's main job on a real cluster, step by step, and says
// in plain words what was seen. It ends with status 0 only if all of it was.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"berth.dev/berth/test/lab"
)

// deployment is applied as it is, with the label and without.
//
//go:embed deployment.yaml
var deployment string

const (
	shop     = "shop"     // may use the Connector
	stranger = "stranger" // may not
	app      = "abc"      // of deployment.yaml
	image    = "harbor.example.com/test/abc:v1"
	patience = time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\nNot seen as promised: %v\n", err)
		os.Exit(1)
	}
}

// demo is what the steps share.
type demo struct {
	*lab.Lab
	start      time.Time
	credential lab.Credential
	seen       []string
}

func run(ctx context.Context) error {
	l, err := lab.Open()
	if err != nil {
		return err
	}
	d := &demo{Lab: l, start: time.Now()}
	if d.credential, err = l.Credential(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		d.prepare, d.withoutLabel, d.withLabel, d.nowhere, d.refused,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.titlef("What was seen, in %.0f s", time.Since(d.start).Seconds())
	for _, s := range d.seen {
		d.sayf("✓ %s", s)
	}
	return nil
}

func (d *demo) titlef(format string, args ...any) {
	fmt.Printf("\n── %s\n", fmt.Sprintf(format, args...))
}

func (d *demo) sayf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Println("   " + strings.ReplaceAll(text, "\n", "\n   "))
}

// notedf says something now, and again at the end.
func (d *demo) notedf(format string, args ...any) {
	d.seen = append(d.seen, fmt.Sprintf(format, args...))
}
