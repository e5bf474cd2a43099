package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"

	"berth.dev/berth/test/cluster/layout"
)

func TestHarborCertificateVerifies(t *testing.T) {
	state := layout.State(t.TempDir())
	if err := Harbor(state); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(state.Harbor("tls.crt"), state.Harbor("tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(state.Harbor("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, name := range []string{layout.HarborName, layout.HarborIP} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKubernetesKeysAreForRootAlone(t *testing.T) {
	state := layout.State(t.TempDir())
	if err := Kubernetes(state); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"ca.key", "sa.key", "admin.key", "admin.kubeconfig"} {
		if status, err := os.Stat(state.PKI(file)); err != nil || status.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, status, err)
		}
	}
}
