// Command coredns is CoreDNS with the few plugins that the test cluster's
// Corefile names.
package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"       // one address to listen on
	_ "github.com/coredns/coredns/plugin/errors"     // errors in the log
	_ "github.com/coredns/coredns/plugin/hosts"      // the upstream's name
	_ "github.com/coredns/coredns/plugin/kubernetes" // Services and Pods
	_ "github.com/coredns/coredns/plugin/log"        // queries in the log
	_ "github.com/coredns/coredns/plugin/ready"      // /ready
	_ "github.com/coredns/coredns/plugin/template"   // NXDOMAIN for the rest
)

func main() { coremain.Run() }
