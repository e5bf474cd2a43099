package config

import (
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	values := Values{State: "/state", Runc: "/cache/runc", CNI: "/cache/cni", HTTPSecret: "s3cret"}
	for name, wants := range map[string][]string{
		"containerd.toml":   {`BinaryName = "/cache/runc"`, `bin_dirs = ["/cache/cni"]`, `config_path = "/etc/containerd/certs.d"`},
		"10-berth.conflist": {`"subnet": "10.78.0.0/24"`, `"ipMasq": false`},
		"kubelet.yaml":      {`clientCAFile: "/state/pki/ca.crt"`, "cgroupRoot: /berth-cluster", "NeverVerifyAllowlistedImages"},
		"kube-proxy.yaml":   {"hostnameOverride: node-1"},
		"Corefile":          {"10.77.0.10 harbor.example.com", "kubeconfig /state/pki/admin.kubeconfig"},
		"harbor.yaml":       {`addr: "10.77.0.10:443"`, `path: "/state/harbor/htpasswd"`, `secret: "s3cret"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Render(name, values)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range wants {
				if !strings.Contains(string(got), want) {
					t.Errorf("no '%s' in\n%s", want, got)
				}
			}
		})
	}
}

func TestEveryFileRenders(t *testing.T) {
	names, err := Names()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := Render(name, Values{}); err != nil {
			t.Error(err)
		}
	}
}
