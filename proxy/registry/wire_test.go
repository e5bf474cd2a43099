package registry

import (
	"crypto/tls"
	"net"
	"testing"
)

// dial opens a connection to the proxy that speaks what is written to it, and nothing else.
func dial(t testing.TB, w *world) net.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", w.front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
