package pki

import (
	"fmt"
	"os"
	"path/filepath"

	"berth.dev/berth/test/cluster/layout"
)

// client is a component that talks to the API server.
type client struct{ file, user, group string }

func clients() []client {
	return []client{
		{"admin", "berth-cluster-admin", "system:masters"},
		{"kube-controller-manager", "system:kube-controller-manager", ""},
		{"kube-scheduler", "system:kube-scheduler", ""},
		{"kube-proxy", "system:kube-proxy", ""},
		{"kubelet", "system:node:" + layout.NodeName, "system:nodes"},
	}
}

// Kubernetes makes all keys, certificates and kubeconfigs of the cluster.
func Kubernetes(state layout.State) error {
	ca, err := NewAuthority(filepath.Dir(state.PKI("ca.crt")), "ca", "berth-cluster-ca")
	if err != nil {
		return err
	}
	for _, leaf := range leaves() {
		if err := ca.Issue(leaf); err != nil {
			return err
		}
	}
	for _, c := range clients() {
		if err := ca.Issue(Leaf{File: c.file, Name: c.user, Organization: c.group}); err != nil {
			return err
		}
		if err := ca.kubeconfig(c.file); err != nil {
			return err
		}
	}
	return ca.ServiceAccountKeys()
}

// leaves are the certificates of servers, and of the API server as a client.
func leaves() []Leaf {
	return []Leaf{
		{
			File: "apiserver", Name: "kube-apiserver",
			DNSNames: []string{
				"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + layout.ClusterDomain,
			},
			IPs: []string{"127.0.0.1", layout.NodeIP, layout.ServiceIP},
		},
		{File: "kubelet-server", Name: layout.NodeName, DNSNames: []string{layout.NodeName}, IPs: []string{"127.0.0.1", layout.NodeIP}},
		{File: "apiserver-kubelet-client", Name: "kube-apiserver-kubelet-client", Organization: "system:masters"},
		{File: "front-proxy-client", Name: "front-proxy-client"},
	}
}

// kubeconfig writes the kubeconfig of a client, by the files of its keys.
func (a *Authority) kubeconfig(file string) error {
	content := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: berth
  cluster: {server: %q, certificate-authority: %q}
users:
- name: %[3]s
  user: {client-certificate: %[4]q, client-key: %[5]q}
contexts:
- name: berth
  context: {cluster: berth, user: %[3]s}
current-context: berth
`, layout.APIServer, a.CertFile("ca"), file, a.CertFile(file), a.KeyFile(file))
	if err := os.WriteFile(filepath.Join(a.dir, file+".kubeconfig"), []byte(content), 0o600); err != nil {
		return fmt.Errorf("writing the kubeconfig of %s: %w", file, err)
	}
	return nil
}

// Harbor makes the upstream's CA (ca.crt) and its certificate (tls.crt).
func Harbor(state layout.State) error {
	ca, err := NewAuthority(filepath.Dir(state.Harbor("ca.crt")), "ca", "Example Organization Private CA")
	if err != nil {
		return err
	}
	return ca.Issue(Leaf{
		File: "tls", Name: layout.HarborName, DNSNames: []string{layout.HarborName}, IPs: []string{layout.HarborIP},
	})
}
