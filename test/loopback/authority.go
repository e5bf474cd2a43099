package loopback

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"time"
)

// Authority is the private certificate authority of a site, as an organization would have one.
type Authority struct {
	// File is its certificate, and Dir a directory with nothing but that, as 'ca.crt'.
	File, Dir string
	// PEM is its certificate.
	PEM []byte

	site        *Site
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

const life = 24 * time.Hour

// newAuthority makes one in a directory of the site.
func newAuthority(s *Site, dir string) *Authority {
	s.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Authority of the site: " + dir}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	a := &Authority{site: s, certificate: template}
	pair := a.sign(template)
	a.certificate, a.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey) //nolint:forcetypeassert // sign makes no other
	a.PEM = certificatePEM(pair)
	a.Dir = s.Path(dir)
	a.File = s.Write(dir+"/ca.crt", string(a.PEM))
	return a
}

// Issue makes a certificate for servers on this machine, by the names that Host gives and by further ones.
func (a *Authority) Issue(names ...string) tls.Certificate {
	a.site.Helper()
	return a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "server of the site"}, DNSNames: append([]string{"localhost", Host("*")}, names...),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(127, 0, 0, 2), net.IPv6loopback},
		KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// IssueFiles is Issue, into files.
func (a *Authority) IssueFiles(name string, names ...string) (certificate, key string) {
	a.site.Helper()
	pair := a.Issue(names...)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	a.site.OK(err)
	return a.site.Write(name+".crt", string(certificatePEM(pair))),
		a.site.Write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

// sign signs with the authority's key; the authority's own certificate is signed with its own.
func (a *Authority) sign(template *x509.Certificate) tls.Certificate {
	a.site.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.site.OK(err)
	signer := key
	if a.key != nil {
		signer = a.key
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	a.site.OK(err)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(life)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), signer)
	a.site.OK(err)
	leaf, err := x509.ParseCertificate(der)
	a.site.OK(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func certificatePEM(c tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
}
