package certs_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/certs"
)

// simulation is a controller that steps authorities through their stored form,
// with the bundles that clients took and the leaves that servers hold.
type simulation struct {
	now     time.Time
	as      certs.Authorities
	bundles []taken
	leaves  []*tls.Certificate
}

type taken struct {
	at     time.Time
	bundle []byte
}

func (s *simulation) step(t *testing.T) (again time.Time) {
	t.Helper()
	data, err := s.as.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	stored, err := certs.ParseAuthorities(data)
	if err != nil {
		t.Fatal(err)
	}
	next, changed, again, err := stored.Step("berth test", scope("example.com"), s.now)
	if err != nil || changed == bytes.Equal(next.Bundle(), stored.Bundle()) || !again.After(s.now) {
		t.Fatalf("%s: changed = %t, %v to %v, again %s: %v", s.now, changed, stored, next, again, err)
	}
	if _, changed, later, _ := next.Step("berth test", scope("example.com"), again.Add(-1)); changed || !later.Equal(again) {
		t.Fatalf("%s: asked just before %s: changed = %t, again at %s", s.now, again, changed, later)
	}
	if _, changed, _, _ := next.Step("berth test", scope("example.com"), again); !changed {
		t.Fatalf("%s: asked again at %s, but nothing changes then", s.now, again)
	}
	s.as = next
	return again
}

// check holds the law: who took the bundle in the last PublishTime verifies a
// fresh leaf, and who takes it now verifies every leaf in its time.
func (s *simulation) check(t *testing.T) {
	t.Helper()
	s.bundles = slices.DeleteFunc(append(s.bundles, taken{s.now, s.as.Bundle()}), func(b taken) bool { return s.now.Sub(b.at) >= certs.PublishTime })
	fresh := leaf(t, s.as, s.now, []string{"www.example.com"})
	for _, b := range s.bundles {
		if err := verify(t, b.bundle, fresh, "www.example.com", s.now); err != nil {
			t.Fatalf("%s: fresh leaf, bundle of %s: %v", s.now, b.at, err)
		}
	}
	s.leaves = slices.DeleteFunc(append(s.leaves, fresh), func(c *tls.Certificate) bool { return s.now.After(c.Leaf.NotAfter) })
	for _, c := range s.leaves {
		if err := verify(t, s.as.Bundle(), c, "www.example.com", s.now); err != nil {
			t.Fatalf("%s: leaf of %s, new bundle: %v", s.now, c.Leaf.NotBefore, err)
		}
	}
}

func TestAuthoritiesRotate(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]time.Duration{"controller there": time.Minute, "controller away": 90 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, 2))
			s := &simulation{now: start()}
			generations := 0
			for end := start().AddDate(4, 0, 0); s.now.Before(end); generations++ {
				again := s.step(t).Add(time.Duration(random.Int64N(int64(away))).Truncate(time.Second))
				for stepped := s.now; s.now.Before(again); {
					s.check(t)
					pause := certs.PublishTime / 4
					if s.now.Sub(stepped) > 2*certs.PublishTime {
						pause = time.Duration(random.Int64N(int64(10*24*time.Hour))).Truncate(time.Second) + time.Second
					}
					s.now = s.now.Add(min(pause, again.Sub(s.now)))
				}
				s.check(t)
			}
			if generations < 6 {
				t.Errorf("only %d steps in the whole time", generations)
			}
		})
	}
}

func TestStepReplacesAtOnce(t *testing.T) {
	t.Parallel()
	before := newAuthorities(t, scope("example.com", "10.0.0.1"))
	for name, tc := range map[string]struct {
		scope  certs.Scope
		after  time.Duration
		change bool
	}{
		"unchanged":        {scope: scope("example.com", "10.0.0.1")},
		"same, mapped":     {scope: scope("example.com", "::ffff:10.0.0.1")},
		"another domain":   {scope: scope("example.org", "10.0.0.1"), change: true},
		"another address":  {scope: scope("example.com", "10.0.0.2"), change: true},
		"one address more": {scope: scope("example.com", "10.0.0.1", "2001:db8::1"), change: true},
		"expired":          {scope: scope("example.com", "10.0.0.1"), after: 366 * 24 * time.Hour, change: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := start().Add(tc.after)
			after, changed, _, err := before.Step("berth test", tc.scope, now)
			if err != nil || changed != tc.change || len(after) != 1 {
				t.Fatalf("Step = %v, changed = %t, %v", after, changed, err)
			}
			if !after[0].Scope().Equal(tc.scope) || tc.change == bytes.Equal(before.Bundle(), after.Bundle()) {
				t.Errorf("scope is %v", after[0].Scope())
			}
			c := leaf(t, after, now, nil, tc.scope.Addresses[0].Unmap().String())
			if err := verify(t, after.Bundle(), c, "", now); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAuthoritiesRoundTrip(t *testing.T) {
	t.Parallel()
	as := newAuthorities(t, scope("example.com", "10.0.0.1"))
	as, _, _, err := as.Step("berth test", scope("example.com", "10.0.0.1"), start().Add(300*24*time.Hour))
	if err != nil || len(as) != 2 {
		t.Fatalf("Step = %v, %v", as, err)
	}
	data, err := as.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	keys := privateKeys(t, data)
	roots, err := certs.ParseCertificates(as.Bundle())
	if err != nil || len(keys) != len(as) || len(roots) != len(as) {
		t.Fatalf("%d authorities, %d keys, %d roots: %v", len(as), len(keys), len(roots), err)
	}
	for _, root := range roots {
		for _, key := range keys {
			if key.PublicKey.Equal(root.PublicKey) {
				t.Error("Marshal writes the key of a root")
			}
		}
	}
	data["ca.crt"], data["note"] = as.Bundle(), []byte("not ours")
	parsed, err := certs.ParseAuthorities(data)
	if err != nil {
		t.Fatal(err)
	}
	delete(data, "ca.crt")
	delete(data, "note")
	written, err := parsed.Marshal()
	if diff := cmp.Diff(data, written); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if !bytes.Equal(as.Bundle(), parsed.Bundle()) {
		t.Error("the order of the authorities is another")
	}
}

func TestParseAuthoritiesRefuses(t *testing.T) {
	t.Parallel()
	good, err := newAuthorities(t, scope("example.com")).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	other, err := newAuthorities(t, scope("example.com")).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	files := slices.Sorted(maps.Keys(good))
	crt, key := files[0], files[1]
	issuer, root := cut(good[crt])
	for name, change := range map[string]func(map[string][]byte){
		"key of another":   func(d map[string][]byte) { d[key] = other[key] },
		"key not PEM":      func(d map[string][]byte) { d[key] = []byte("key") },
		"key not PKCS 8":   func(d map[string][]byte) { d[key] = d[crt] },
		"no certificate":   func(d map[string][]byte) { d[crt] = nil },
		"one certificate":  func(d map[string][]byte) { d[crt] = issuer },
		"three":            func(d map[string][]byte) { d[crt] = slices.Concat(issuer, root, root) },
		"root first":       func(d map[string][]byte) { d[crt] = slices.Concat(root, issuer) },
		"not a DER inside": func(d map[string][]byte) { d[crt] = []byte(strings.Replace(string(issuer), "MII", "AAA", 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := maps.Clone(good)
			change(changed)
			if as, err := certs.ParseAuthorities(changed); err == nil {
				t.Errorf("ParseAuthorities = %v", as)
			}
		})
	}
}

// cut divides a bundle after its first certificate.
func cut(bundle []byte) (first, rest []byte) {
	_, rest = pem.Decode(bundle)
	return bundle[:len(bundle)-len(rest)], rest
}

func FuzzParseCertificates(f *testing.F) {
	bundle := newAuthorities(f, scope("example.com")).Bundle()
	f.Add(bundle)
	f.Add(slices.Concat([]byte("text\n"), bundle, []byte("-----BEGIN X-----\n-----END X-----\n"), bundle))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		read, err := certs.ParseCertificates(bundle)
		if (len(read) == 0) != (err != nil) {
			t.Fatalf("%d certificates, %v", len(read), err)
		}
		if err != nil && !bytes.Contains(bundle, []byte("CERTIFICATE")) && !errors.Is(err, certs.ErrNoCertificate) {
			t.Errorf("err = %v, want %v", err, certs.ErrNoCertificate)
		}
		var written []byte
		for _, c := range read {
			written = append(written, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		again, err := certs.ParseCertificates(written)
		if len(read) > 0 && (err != nil || !slices.EqualFunc(read, again, (*x509.Certificate).Equal)) {
			t.Errorf("written and read again, they are others: %v", err)
		}
	})
}
