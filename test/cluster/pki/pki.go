// Package pki makes the keys and certificates of one run of the cluster: a CA
// for Kubernetes with the certificates of its components and their
// kubeconfigs, and another CA for the upstream, which the node trusts as it
// would an organization's private one.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority signs certificates and writes them into one directory.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Leaf is what a certificate says.
type Leaf struct {
	File         string // without .crt and .key
	Name         string
	Organization string
	DNSNames     []string
	IPs          []string
}

const life = 30 * 24 * time.Hour

// NewAuthority makes a CA and writes its certificate and key as FILE.crt and
// FILE.key.
func NewAuthority(dir, file, name string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of a CA: %w", err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	authority := &Authority{dir: dir, cert: template}
	cert, key, err := authority.sign(template, file)
	if err != nil {
		return nil, err
	}
	authority.cert, authority.key = cert, key
	return authority, nil
}

// CertFile is where the certificate of the given name is.
func (a *Authority) CertFile(file string) string { return filepath.Join(a.dir, file+".crt") }

// KeyFile is where the key of the given name is.
func (a *Authority) KeyFile(file string) string { return filepath.Join(a.dir, file+".key") }

// Issue makes a certificate for servers and clients.
func (a *Authority) Issue(leaf Leaf) error {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: leaf.Name},
		DNSNames:    leaf.DNSNames,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if leaf.Organization != "" {
		template.Subject.Organization = []string{leaf.Organization}
	}
	for _, ip := range leaf.IPs {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	_, _, err := a.sign(template, leaf.File)
	return err
}

// sign completes the template, signs it and writes certificate and key. An
// authority without a key signs itself.
func (a *Authority) sign(template *x509.Certificate, file string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making the key of %s: %w", file, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("making the serial number of %s: %w", file, err)
	}
	now := time.Now()
	template.SerialNumber, template.NotBefore, template.NotAfter = serial, now.Add(-time.Hour), now.Add(life)
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("signing %s: %w", file, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("reading back %s: %w", file, err)
	}
	return cert, key, a.write(file, der, key)
}

func (a *Authority) write(file string, der []byte, key *ecdsa.PrivateKey) error {
	if err := writePEM(a.CertFile(file), "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the key of %s: %w", file, err)
	}
	return writePEM(a.KeyFile(file), "EC PRIVATE KEY", private, 0o600)
}

// ServiceAccountKeys writes the pair that signs ServiceAccount tokens: sa.key
// and sa.pub, RSA as in most clusters.
func (a *Authority) ServiceAccountKeys() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("making the key of ServiceAccount tokens: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encoding the key of ServiceAccount tokens: %w", err)
	}
	if err := writePEM(a.KeyFile("sa"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), 0o600); err != nil {
		return err
	}
	return writePEM(filepath.Join(a.dir, "sa.pub"), "PUBLIC KEY", public, 0o644)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return fmt.Errorf("writing keys: %w", err)
	}
	return nil
}
