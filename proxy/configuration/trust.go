package configuration

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/x509roots/fallback/bundle"
	"software.sslmate.com/src/go-pkcs12"

	"berth.dev/berth/certs"
)

// mostTrusts bounds the sets of authorities that are remembered: they rotate, and are few.
const mostTrusts = 16

// trust is a set of authorities as files.
type trust struct {
	// authorities are the Connectors' alone.
	authorities []byte
	// bundle is the public ones and the Connectors', in PEM.
	bundle []byte
	// store is the bundle as PKCS #12 without a password, as Java wants it. The same set gives the same bytes.
	store []byte
}

// trusts makes them, each once.
type trusts struct {
	public []*x509.Certificate
	pem    []byte
	made   *lru.Cache[[sha256.Size]byte, *trust]
}

// newTrusts starts from the public roots that Berth itself trusts. Roots that
// are trusted only within bounds that a file cannot say are left out.
func newTrusts() (*trusts, error) {
	made, err := lru.New[[sha256.Size]byte, *trust](mostTrusts)
	if err != nil {
		return nil, err
	}
	t := &trusts{made: made}
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, fmt.Errorf("read the public roots: %w", err)
		}
		t.public = append(t.public, certificate)
	}
	t.pem = encode(t.public)
	return t, nil
}

// with returns the set with the given authorities, in PEM.
func (t *trusts) with(authorities []byte) (*trust, error) {
	key := sha256.Sum256(authorities)
	if made, ok := t.made.Get(key); ok {
		return made, nil
	}
	own, err := certs.ParseCertificates(authorities)
	if err != nil {
		return nil, fmt.Errorf("read the Connectors' certificate authorities: %w", err)
	}
	var entries []pkcs12.TrustStoreEntry
	for i, certificate := range own {
		entries = append(entries, pkcs12.TrustStoreEntry{Cert: certificate, FriendlyName: fmt.Sprintf("berth-%d", i)})
	}
	for i, certificate := range t.public {
		entries = append(entries, pkcs12.TrustStoreEntry{Cert: certificate, FriendlyName: fmt.Sprintf("public-%d", i)})
	}
	store, err := pkcs12.Passwordless.EncodeTrustStoreEntries(entries, "")
	if err != nil {
		return nil, fmt.Errorf("make the trust store: %w", err)
	}
	plain := encode(own)
	made := &trust{authorities: plain, bundle: append(bytes.Clone(plain), t.pem...), store: store}
	t.made.Add(key, made)
	return made, nil
}

func encode(certificates []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certificates {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}
