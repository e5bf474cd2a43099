package configuration

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/x509roots/fallback/bundle"
	"software.sslmate.com/src/go-pkcs12"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
	"berth.dev/berth/route"
)

// mostTrusts bounds the sets of authorities that are remembered: one for each
// namespace with Connectors of its own, of some hundred KiB.
const mostTrusts = 64

// Interception holds, by Connector, what verifies the forward proxy where it
// speaks for the Connector's hosts. It is fed from a watch and read on every
// request. The zero value is empty and ready.
type Interception struct {
	byName sync.Map // of []byte, PEM, by route.Connector
}

// Put takes over a Connector's certificates, in PEM; none, or some that are no good, are none.
func (i *Interception) Put(name route.Connector, bundle string) error {
	if bundle == "" {
		i.byName.Delete(name)
		return nil
	}
	certificates, err := certs.ParseCertificates([]byte(bundle))
	if err != nil {
		i.byName.Delete(name)
		return fmt.Errorf("`status.proxy.interceptionCABundle` of Connector '%s': %w", name, err)
	}
	i.byName.Store(name, encode(certificates))
	return nil
}

// Delete removes the certificates of a Connector, if there are any.
func (i *Interception) Delete(name route.Connector) { i.byName.Delete(name) }

// after returns the authorities, with those of the Connectors after them.
func (i *Interception) after(authorities []byte, connectors []*access.Connector) []byte {
	all := slices.Clip(authorities)
	for _, c := range connectors {
		if own, ok := i.byName.Load(c.Connector); ok {
			all = append(all, own.([]byte)...) //nolint:forcetypeassert // Put stores no other
		}
	}
	return all
}

// trust is a set of authorities as files.
type trust struct {
	// authorities are the Connectors' alone.
	authorities []byte
	// bundle is the public ones and the Connectors', in PEM.
	bundle []byte
	// store is the bundle as PKCS #12 without a password, as Java wants it. The same set gives the same bytes.
	store []byte
	// digests are those of the great files, by name.
	digests map[string]string
}

// leaveOut takes out of the files those whose contents the node has, and returns their digests.
func (t *trust) leaveOut(files map[string][]byte, have []string) map[string]string {
	same := map[string]string{}
	for name, digest := range t.digests {
		if slices.Contains(have, digest) {
			same[name] = digest
			delete(files, name)
		}
	}
	return same
}

// trusts makes them, each once.
type trusts struct {
	public []*x509.Certificate
	pem    []byte
	digest [sha256.Size]byte // of pem
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
	t.digest = sha256.Sum256(t.pem)
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
	made := &trust{authorities: plain, bundle: slices.Concat(plain, t.pem), store: store}
	made.digests = map[string]string{
		v1alpha1.FileBundle: v1alpha1.FilesDigest(made.bundle), v1alpha1.FileTrustStore: v1alpha1.FilesDigest(made.store),
	}
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
