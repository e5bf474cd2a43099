package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// NodeFolders are the folders of the node that Kubernetes and containerd write to.
func NodeFolders() []string {
	return []string{"/etc", "/run/containerd", "/var/lib/containerd", "/var/lib/kubelet", "/var/log", "/var/lib/cni"}
}

// Token returns the berth token in a namespace's pull secret, once it is there.
func (l *Lab) Token(ctx context.Context, namespace string) (token string, err error) {
	const limit = 10 * time.Second
	err = Wait(ctx, limit, "Secret '"+namespace+"/"+v1alpha1.PullSecret+"'", func(ctx context.Context) (bool, error) {
		var s corev1.Secret
		if err := l.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.PullSecret}, &s); err != nil {
			return false, err
		}
		var config struct {
			Auths map[string]struct {
				Password string `json:"password"`
			} `json:"auths"`
		}
		if err := json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &config); err != nil {
			return false, err
		}
		for _, auth := range config.Auths {
			token = auth.Password
		}
		return true, nil
	})
	return token, err
}

// AskProxy sends a request, as the node's containerd would, with the token of a
// namespace, or with none where the namespace has none for any Connector.
func (l *Lab) AskProxy(ctx context.Context, namespace, method, path string) (status int, body string, err error) {
	token, err := l.Token(ctx, namespace)
	if err != nil {
		return 0, "", err
	}
	return l.AskProxyWith(ctx, token, method, path)
}

// AskProxyWith is AskProxy with a given token; with an empty one the request has no Authorization.
func (l *Lab) AskProxyWith(ctx context.Context, token, method, path string) (status int, body string, err error) {
	var service corev1.Service
	if err := l.Client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyService}, &service); err != nil {
		return 0, "", err
	}
	var published corev1.ConfigMap
	if err := l.Client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyCA}, &published); err != nil {
		return 0, "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(published.Data[v1alpha1.CACertKey]))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(ctx, method, "https://"+service.Spec.ClusterIP+path, nil)
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*")
	if token != "" {
		request.SetBasicAuth("berth", token)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return 0, "", fmt.Errorf("read the answer: %w", err)
	}
	return response.StatusCode, string(text), response.Body.Close()
}
