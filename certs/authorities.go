package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// PublishTime is how long a new generation is only in the bundle, before it signs.
	PublishTime = time.Hour
	// rotateAge is the age at which a generation gets a successor.
	rotateAge = authorityLife * 2 / 3
	// keepTime is how long a generation stays in the bundle after its successor came.
	keepTime = PublishTime + leafLife
)

const (
	certSuffix = ".crt"
	keySuffix  = ".key"
)

// Authorities are the generations of one authority, oldest first. The zero value has none.
type Authorities []Authority

// Step returns the authorities as they should be now: all of the scope, with a
// new one where the newest is too old, without those that sign nothing any more.
// It reports whether anything changed, and when to ask again.
//
// After a change of scope the old generations are of no use to anybody: they
// go at once, and the new one signs at once.
func (as Authorities) Step(name string, scope Scope, now time.Time) (next Authorities, changed bool, again time.Time, err error) {
	next = slices.DeleteFunc(slices.Clone(as), func(a Authority) bool {
		return !a.Scope().Equal(scope) || !now.Before(a.issuer.NotAfter)
	})
	changed = len(next) != len(as)
	if len(next) == 0 || !now.Before(next.newest().Created().Add(rotateAge)) {
		a, err := NewAuthority(name, scope, now)
		if err != nil {
			return as, false, now, err
		}
		next, changed = append(next, a), true
	}
	for len(next) > 1 && !now.Before(next[1].Created().Add(keepTime)) {
		next, changed = next[1:], true
	}
	again = next.newest().Created().Add(rotateAge)
	if len(next) > 1 {
		again = next[1].Created().Add(keepTime)
	}
	return next, changed, again, nil
}

func (as Authorities) newest() Authority { return as[len(as)-1] }

// Signing returns the newest authority that clients have had the time to learn
// of, or the oldest where none is that old; and false where there is none.
func (as Authorities) Signing(now time.Time) (Authority, bool) {
	if len(as) == 0 {
		return Authority{}, false
	}
	for _, a := range slices.Backward(as[1:]) {
		if !now.Before(a.Created().Add(PublishTime)) {
			return a, true
		}
	}
	return as[0], true
}

// Bundle returns the roots of all generations in PEM: what a client is to trust.
func (as Authorities) Bundle() []byte {
	var bundle []byte
	for _, a := range as {
		bundle = append(bundle, encode("CERTIFICATE", a.root.Raw)...)
	}
	return bundle
}

// Marshal returns the authorities, with their keys, as the data of a Secret: for
// each generation `<second of its creation>.crt` (intermediate and root) and `.key`.
func (as Authorities) Marshal() (map[string][]byte, error) {
	data := make(map[string][]byte, 2*len(as))
	for _, a := range as {
		der, err := x509.MarshalPKCS8PrivateKey(a.key())
		if err != nil {
			return nil, fmt.Errorf("encode the key of %s: %w", a, err)
		}
		name := strconv.FormatInt(a.Created().Unix(), 10)
		data[name+certSuffix] = slices.Concat(encode("CERTIFICATE", a.issuer.Raw), encode("CERTIFICATE", a.root.Raw))
		data[name+keySuffix] = encode("PRIVATE KEY", der)
	}
	return data, nil
}

// ParseAuthorities reads what Marshal writes. Entries of other names are passed over.
func ParseAuthorities(data map[string][]byte) (Authorities, error) {
	var as Authorities
	for _, file := range slices.Sorted(maps.Keys(data)) {
		name, ok := strings.CutSuffix(file, certSuffix)
		if !ok || data[name+keySuffix] == nil {
			continue
		}
		a, err := parseAuthority(data[file], data[name+keySuffix])
		if err != nil {
			return nil, fmt.Errorf("read the authority '%s': %w", name, err)
		}
		as = append(as, a)
	}
	slices.SortStableFunc(as, func(a, b Authority) int { return a.Created().Compare(b.Created()) })
	return as, nil
}

func parseAuthority(certificates, key []byte) (Authority, error) {
	chain, err := ParseCertificates(certificates)
	if err != nil {
		return Authority{}, err
	}
	if len(chain) != 2 {
		return Authority{}, fmt.Errorf("%d certificates, must be 2: intermediate and root", len(chain))
	}
	block, _ := pem.Decode(key)
	if block == nil {
		return Authority{}, errors.New("the key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Authority{}, errors.New("the key is not PKCS #8")
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(chain[0].PublicKey) {
		return Authority{}, errors.New("the key is not the intermediate's")
	}
	return Authority{issuer: chain[0], root: chain[1], key: func() *ecdsa.PrivateKey { return private }}, nil
}

// ErrNoCertificate is returned for text that holds no PEM certificate.
var ErrNoCertificate = errors.New("no PEM block of type CERTIFICATE")

// ParseCertificates reads a PEM bundle. Blocks of other types are passed over;
// no certificate at all is ErrNoCertificate.
func ParseCertificates(bundle []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the bundle: %w", len(certificates)+1, err)
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return nil, ErrNoCertificate
	}
	return certificates, nil
}

func encode(kind string, der []byte) []byte {
	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}) // a bytes.Buffer does not fail
	return b.Bytes()
}
