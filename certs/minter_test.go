package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth.dev/berth/certs"
)

// subjects serves the names below example.com and, by default, two addresses.
func subjects(name string) ([]string, []netip.Addr) {
	switch {
	case name == "":
		return []string{"default.example.com"}, ips("10.0.0.1", "2001:db8::1")
	case strings.HasSuffix(name, ".example.com"):
		return []string{name}, nil
	default:
		return nil, nil
	}
}

func newMinter(t testing.TB, s certs.Subjects, now func() time.Time) (*certs.Minter, certs.Authorities) {
	t.Helper()
	as := newAuthorities(t, scope("example.com", "10.0.0.1", "2001:db8::1"))
	m := certs.NewMinter(s, now)
	m.Use(as)
	return m, as
}

func get(t testing.TB, m *certs.Minter, name string) *tls.Certificate {
	t.Helper()
	c, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// handshake lets a client that trusts the bundle meet a server of the minter.
func handshake(t *testing.T, m *certs.Minter, bundle []byte, serverName string) (client, server error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	near, far := net.Pipe()
	served := make(chan error)
	go func() {
		s := tls.Server(far, &tls.Config{GetCertificate: m.GetCertificate, MinVersion: tls.VersionTLS13})
		err := s.HandshakeContext(t.Context())
		_ = far.Close()
		served <- err
	}()
	c := tls.Client(near, &tls.Config{RootCAs: roots, ServerName: serverName, Time: start, MinVersion: tls.VersionTLS13})
	client = c.HandshakeContext(t.Context())
	_ = near.Close()
	return client, <-served
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	m, as := newMinter(t, subjects, start)
	stranger := newAuthorities(t, scope("example.com"))
	var unknown x509.UnknownAuthorityError
	for name, tc := range map[string]struct {
		serverName string
		bundle     []byte
		refused    bool // by the client, as of an unknown authority
		unserved   bool
	}{
		"name":               {serverName: "www.example.com", bundle: as.Bundle()},
		"name in upper case": {serverName: "WWW.EXAMPLE.COM", bundle: as.Bundle()},
		"IPv4 sends no name": {serverName: "10.0.0.1", bundle: as.Bundle()},
		"IPv6 sends no name": {serverName: "2001:db8::1", bundle: as.Bundle()},
		"unknown name":       {serverName: "www.example.org", bundle: as.Bundle(), unserved: true},
		"another authority":  {serverName: "www.example.com", bundle: stranger.Bundle(), refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := handshake(t, m, tc.bundle, tc.serverName)
			if errors.Is(server, certs.ErrUnknownName) != tc.unserved || errors.As(client, &unknown) != tc.refused {
				t.Errorf("client: %v, server: %v", client, server)
			}
			if (client != nil) != (tc.refused || tc.unserved) {
				t.Errorf("client: %v", client)
			}
		})
	}
}

func TestMinterWithoutAuthority(t *testing.T) {
	t.Parallel()
	m := certs.NewMinter(subjects, start)
	for name, use := range map[string]func(){"never": func() {}, "none": func() { m.Use(nil) }} {
		use()
		if _, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "www.example.com"}); err == nil || m.Ready() {
			t.Errorf("%s: ready = %t, and mints", name, m.Ready())
		}
	}
	m.Use(newAuthorities(t, scope("example.com")))
	if get(t, m, "www.example.com"); !m.Ready() {
		t.Error("is not ready")
	}
}

func TestMinterMintsOnceUnderLoad(t *testing.T) {
	t.Parallel()
	m, _ := newMinter(t, subjects, start)
	var all sync.WaitGroup
	minted := make([]*tls.Certificate, 100)
	for i := range minted {
		all.Go(func() { minted[i], _ = m.GetCertificate(&tls.ClientHelloInfo{ServerName: "www.example.com"}) })
	}
	all.Wait()
	for _, c := range minted {
		if c == nil || c != minted[0] {
			t.Fatal("certificates differ")
		}
	}
}

// A call that saw nothing in the cache, and then fell asleep, finds what was minted meanwhile.
func TestMinterMintsOnceForASlowCall(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	m, _ := newMinter(t, func(name string) ([]string, []netip.Addr) {
		if calls.Add(1) == 1 {
			close(asked)
			<-answer
		}
		return subjects(name)
	}, start)
	got := make(chan *tls.Certificate)
	go func() {
		c, _ := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "www.example.com"})
		got <- c
	}()
	<-asked
	quick := get(t, m, "www.example.com")
	close(answer)
	if <-got != quick {
		t.Error("the slow call minted another certificate")
	}
}

func TestMinterRenews(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, tc := range map[string]struct {
		serverName    string
		first, second time.Duration // when it is asked, since the authority was made
		same          bool
	}{
		"at once":             {serverName: "www.example.com", same: true},
		"spelt as by DNS":     {serverName: "WWW.example.com.", same: true},
		"half a day later":    {serverName: "www.example.com", second: day / 2, same: true},
		"another name":        {serverName: "ftp.example.com"},
		"days before it ends": {serverName: "www.example.com", second: 2 * day},
		"authority has ended": {serverName: "www.example.com", first: 365*day - time.Hour, second: 365 * day},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := start().Add(tc.first)
			m, _ := newMinter(t, subjects, func() time.Time { return now })
			first := get(t, m, "www.example.com")
			now = start().Add(tc.second)
			if same := get(t, m, tc.serverName) == first; same != tc.same {
				t.Errorf("the same certificate is %t, want %t", same, tc.same)
			}
		})
	}
}

func TestUseForgets(t *testing.T) {
	t.Parallel()
	m, _ := newMinter(t, subjects, start)
	before := get(t, m, "www.example.com")
	next := newAuthorities(t, scope("example.com"))
	m.Use(next)
	after := get(t, m, "www.example.com")
	if after == before || verify(t, next.Bundle(), after, "www.example.com", start()) != nil {
		t.Error("the certificate is of the authority before")
	}
}

func TestUseLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	as := newAuthorities(t, scope("example.com"))
	synctest.Test(t, func(t *testing.T) { // fails where a goroutine stays
		m := certs.NewMinter(subjects, start)
		for range 3 {
			m.Use(as)
			get(t, m, "www.example.com")
		}
	})
}

func BenchmarkGetCertificate(b *testing.B) {
	for name, again := range map[string]bool{"cached": false, "minted": true} {
		b.Run(name, func(b *testing.B) {
			m, as := newMinter(b, subjects, start)
			get(b, m, "www.example.com")
			b.ReportAllocs()
			for b.Loop() {
				if again {
					m.Use(as)
				}
				get(b, m, "www.example.com")
			}
		})
	}
}
