package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/config"
)

// readAgain is how often the configuration file is looked at. It is compared by
// content: kubelet changes a mounted ConfigMap by turning links, which no watch
// of a file tells reliably.
const readAgain = 5 * time.Second

// configuration is the configuration file, as it was last read well.
type configuration struct {
	file    string
	content []byte
	current atomic.Pointer[v1alpha1.Configuration]
}

// newConfiguration reads the file; without a name the defaults hold.
func newConfiguration(file string) (*configuration, error) {
	c := &configuration{file: file}
	if file == "" {
		c.current.Store(new(config.Default()))
		return c, nil
	}
	return c, c.read()
}

func (c *configuration) now() *v1alpha1.Configuration { return c.current.Load() }

// read takes over the file where it changed.
func (c *configuration) read() error {
	content, err := os.ReadFile(c.file)
	if err != nil || c.content != nil && bytes.Equal(content, c.content) {
		return err
	}
	parsed, err := config.Parse(content)
	if err != nil {
		return fmt.Errorf("configuration file '%s': %w", c.file, err)
	}
	c.content = content
	c.current.Store(&parsed)
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every replica reads.
func (*configuration) NeedLeaderElection() bool { return false }

// Start reads the file again until the context ends. What cannot be read
// changes nothing. The cluster's domain is for the next start.
func (c *configuration) Start(ctx context.Context) error {
	ticks := time.NewTicker(readAgain)
	defer ticks.Stop()
	for c.file != "" {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		before := c.now()
		if err := c.read(); err != nil {
			ctrl.Log.Error(err, "go on with the configuration from before")
		} else if c.now() != before {
			ctrl.Log.Info("read the configuration again", "file", c.file)
		}
	}
	return nil
}

func printDefaults(w io.Writer) error {
	text, err := config.Print(config.Default())
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}
