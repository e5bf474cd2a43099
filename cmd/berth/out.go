package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/pflag"
	ctrl "sigs.k8s.io/controller-runtime"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/config"
	"berth.dev/berth/egress"
)

// mostCredential is longer than any user and password.
const mostCredential = 4 << 10

// outOptions are the flags about the way out.
type outOptions struct {
	credential string
}

func (o *outOptions) add(flags *pflag.FlagSet) {
	flags.StringVar(&o.credential, "parent-credential", "",
		"file with 'USER:PASSWORD' for the configuration's parent proxy, of a mounted Secret; it is read at each connection. Without one the parent is told none")
}

// way is the way out to registries, and to all else: by the configuration's parent proxy, where there is one.
func (o *outOptions) way(settings *configuration, dialer *egress.Dialer) *egress.Way {
	parents := &parents{settings: settings, credential: o.read}
	return &egress.Way{Resolver: &net.Resolver{}, Check: dialer.Check, Dial: dialer.DialContext, Parent: parents.now}
}

// read returns the parent's credential. No error holds any of it.
func (o *outOptions) read() (string, error) {
	if o.credential == "" {
		return "", nil
	}
	content, err := os.ReadFile(o.credential)
	if err != nil {
		return "", fmt.Errorf("read the parent proxy's credential: %w", err)
	}
	text := strings.TrimRight(string(content), "\r\n")
	if len(text) > mostCredential || !strings.Contains(text, ":") || strings.ContainsAny(text, "\r\n\x00") {
		return "", errors.New("read the parent proxy's credential: the file must hold one line, 'USER:PASSWORD'")
	}
	return text, nil
}

// parents makes the parent proxy once for each time that the configuration was read.
type parents struct {
	settings   *configuration
	credential func() (string, error)
	last       atomic.Pointer[madeParent]
}

type madeParent struct {
	from *v1alpha1.Configuration
	to   *egress.Parent
}

func (p *parents) now() *egress.Parent {
	settings := p.settings.now()
	if last := p.last.Load(); last != nil && last.from == settings {
		return last.to
	}
	made, err := config.Parent(&settings.Proxy, settings.ClusterDomain, p.credential)
	if err != nil { // it was refused as the file was read
		ctrl.Log.Error(err, "go on without a parent proxy")
	}
	p.last.Store(&madeParent{settings, made})
	return made
}
