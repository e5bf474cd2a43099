package forward

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/token"
)

// Revoked tokens open nothing, end tunnels that were opened with them, and are told apart; a new one is good.
func TestRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, intercepted := w.dial("demo", harborAt)
	secured, err := w.secure(intercepted, harborHost)
	if err != nil {
		t.Fatal(err)
	}
	_, blind := w.dial("demo", evilAt)
	_, other := w.dial("team", evilAt)
	w.namespaces.set("demo", identity.Namespace{UID: "uid-demo", Generation: "2"})

	if status, c := w.dial("demo", evilAt); status != 407 || c.response.Header.Get("Proxy-Authenticate") == "" {
		t.Errorf("a new tunnel: %d", status)
	}
	w.log.has(t, ReasonTokenRevoked)
	if a := w.say(secured, pull+"Host: harbor.example.com\r\n\r\n"); a.StatusCode != 403 || !a.Close {
		t.Errorf("a request within a tunnel that is intercepted: %d, close %t", a.StatusCode, a.Close)
	}
	_ = blind.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadAll(blind); err != nil {
		t.Errorf("a tunnel that is not looked into stands: %v", err)
	}
	_ = other.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := other.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the tunnel of another namespace: %v", err)
	}
	fresh := w.token("demo", func(c *token.Claims) { c.Generation = "2" })
	if status, _ := w.raw("CONNECT " + evilAt + " HTTP/1.1\r\nHost: " + evilAt + "\r\nProxy-Authorization: " + w.basic("berth", fresh) + "\r\n\r\n"); status != 200 {
		t.Errorf("with a new token: %d", status)
	}
}
