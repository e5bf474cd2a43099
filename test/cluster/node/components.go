package node

import (
	"path/filepath"

	"berth.dev/berth/test/cluster/build"
	"berth.dev/berth/test/cluster/layout"
	"berth.dev/berth/test/cluster/namespaces"
	"berth.dev/berth/test/cluster/supervise"
)

// Harbor is the name of the upstream among the components.
const Harbor = "harbor"

// Setup is what the node has to know about this run.
type Setup struct {
	State     layout.State    `json:"state"`
	Installed build.Installed `json:"installed"`
}

// Names are the components in the order in which they start.
func Names() []string {
	return []string{
		"etcd", "containerd", Harbor, "kube-apiserver",
		"kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns",
	}
}

// spec says how to run the component of the given name.
func (s Setup) spec(name string) supervise.Spec {
	spec := supervise.Spec{
		Name: name, Log: s.State.Log(name),
		Path: s.Installed.Program("kubernetes", name),
		Args: s.arguments(name),
		Env:  []string{"PATH=" + s.Installed.Path(), "HOME=/root"},
	}
	switch name {
	case "containerd", "coredns":
		spec.Path = s.Installed.Program(name, name)
	case Harbor:
		spec.Path = s.Installed.Program("registry", "registry")
		spec.Env = append(spec.Env, "OTEL_TRACES_EXPORTER=none")
		spec.Errs = s.State.Log("harbor-events") // Log is the access log
		spec.In = func(start func() error) error { return namespaces.WithinNetwork(layout.HarborNetns, start) }
	}
	return spec
}

func (s Setup) arguments(name string) []string {
	switch name {
	case "etcd":
		return s.etcd()
	case "containerd":
		return []string{"--config", "/etc/containerd/config.toml"}
	case Harbor:
		return []string{"serve", s.State.Config("harbor.yaml")}
	case "kube-apiserver":
		return s.apiServer()
	case "kube-controller-manager":
		return s.controllerManager()
	case "kube-scheduler":
		return []string{"--kubeconfig=" + s.State.PKI("kube-scheduler.kubeconfig"), "--leader-elect=false", "--bind-address=127.0.0.1"}
	case "kubelet":
		return []string{
			"--config=" + s.State.Config("kubelet.yaml"), "--kubeconfig=" + s.State.PKI("kubelet.kubeconfig"),
			"--node-ip=" + layout.NodeIP, "--hostname-override=" + layout.NodeName, "--v=2",
		}
	case "kube-proxy":
		return []string{"--config=" + s.State.Config("kube-proxy.yaml")}
	case "coredns":
		return []string{"-conf", s.State.Config("Corefile")}
	}
	return nil
}

// etcd keeps its data in memory: the cluster does not outlive it.
func (s Setup) etcd() []string {
	return []string{
		"--data-dir=" + filepath.Join(layout.Private, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380",
	}
}

// apiServer keeps the default admission plugins, among them the webhooks, the
// policies and Pod Security.
func (s Setup) apiServer() []string {
	pki := s.State.PKI
	return []string{
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=0.0.0.0", "--secure-port=6443", "--advertise-address=" + layout.NodeIP,
		"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
		"--client-ca-file=" + pki("ca.crt"), "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--service-cluster-ip-range=" + layout.ServiceCIDR,
		"--service-account-issuer=https://kubernetes.default.svc." + layout.ClusterDomain,
		"--service-account-key-file=" + pki("sa.pub"), "--service-account-signing-key-file=" + pki("sa.key"),
		"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"), "--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file=" + pki("ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + pki("front-proxy-client.crt"), "--proxy-client-key-file=" + pki("front-proxy-client.key"),
	}
}

// controllerManager gets generous limits: at the default ones it takes five
// seconds to start.
func (s Setup) controllerManager() []string {
	pki := s.State.PKI
	return []string{
		"--kubeconfig=" + pki("kube-controller-manager.kubeconfig"), "--use-service-account-credentials=true",
		"--leader-elect=false", "--bind-address=127.0.0.1", "--kube-api-qps=300", "--kube-api-burst=600",
		"--flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins",
		"--service-account-private-key-file=" + pki("sa.key"), "--root-ca-file=" + pki("ca.crt"),
		"--cluster-signing-cert-file=" + pki("ca.crt"), "--cluster-signing-key-file=" + pki("ca.key"),
		"--service-cluster-ip-range=" + layout.ServiceCIDR,
	}
}
