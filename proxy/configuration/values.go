package configuration

import (
	"net"
	"net/url"
	"path"
	"strings"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
)

// Values are what a template sees. docs/spec/files.md lists them.
type Values struct {
	// Namespace of the Pod.
	Namespace string
	// Token is the Pod's: the password for the Connectors, under any user name.
	Token string
	// ProxyURL is the forward proxy's, with the token in it; empty where there is none.
	ProxyURL string
	// NoProxy lists what is reached without the forward proxy, separated by commas.
	NoProxy string
	// MountPath is the folder in which containers find the files.
	MountPath string
	// CAFile and BundleFile are the paths of the Connectors' authorities, alone and with the public ones.
	CAFile, BundleFile string
	// CACert is the content of CAFile.
	CACert string
	// Connectors are those of the volume whose class offers the configuration, as the Pod names them.
	Connectors []ConnectorValues
}

// ConnectorValues are what a template sees of a Connector.
type ConnectorValues struct {
	// Name, Namespace and Class of the Connector.
	Name, Namespace, Class string
	// Host is the Connector's, for image names: 'c-NAME.NAMESPACE.svc.cluster.local'.
	Host string
	// Route goes after the host: 'namespaces/NAMESPACE/connectors/NAME'.
	Route string
	// URL is 'https://HOST/ROUTE'.
	URL string
	// Address is the registry's own, and Registry its host as image names spell it.
	Address, Registry string
	// Prefix is what the registry's image names begin with: Registry, and the address's path.
	Prefix string
}

func valuesOf(c *access.Connector, clusterDomain string) ConnectorValues {
	host := c.Host(clusterDomain)
	return ConnectorValues{
		Name: c.Name, Namespace: c.Namespace, Class: c.Spec.ConnectorClassName,
		Host: host, Route: c.Format(), URL: "https://" + host + "/" + c.Format(),
		Address: c.Address.String(), Registry: c.Registry, Prefix: c.Registry + c.Address.Path,
	}
}

// withoutToken takes the token out of a text, if it has got into it.
func (v *Values) withoutToken(text string) string {
	if v.Token == "" {
		return text
	}
	return strings.ReplaceAll(text, v.Token, "[token]")
}

// proxyUser stands in the proxy's URL where the Pod names no Connectors.
const proxyUser = "berth"

// proxyURL is how clients are told of the forward proxy: who uses it, which
// Connectors he names, and his token.
func proxyURL(address, connectors, token string) string {
	if address == "" {
		return ""
	}
	if connectors == "" {
		connectors = proxyUser
	}
	return (&url.URL{Scheme: "http", User: url.UserPassword(connectors, token), Host: address}).String()
}

// noProxy is what is reached without the proxy.
func noProxy(clusterDomain, apiServer string, more []string) string {
	list := []string{"localhost", "127.0.0.1", "::1", ".svc", "." + clusterDomain}
	if net.ParseIP(apiServer) != nil {
		list = append(list, apiServer)
	}
	return strings.Join(append(list, more...), ",")
}

// fixed are the files that every volume has.
func fixed(v *Values, t *trust) map[string][]byte {
	return map[string][]byte{
		v1alpha1.FileEnv:        []byte(env(v)),
		v1alpha1.FileHTTPProxy:  []byte(v.ProxyURL),
		v1alpha1.FileHTTPSProxy: []byte(v.ProxyURL),
		v1alpha1.FileCA:         t.authorities,
		v1alpha1.FileCAOfProxy:  t.authorities,
		v1alpha1.FileBundle:     t.bundle,
		v1alpha1.FileTrustStore: t.store,
		v1alpha1.FileWget:       []byte("ca_certificate = " + v.BundleFile + "\n"),
		v1alpha1.FileToken:      []byte(v.Token),
	}
}

// env holds variables for a shell, or for what reads `.env` files. Nothing in
// the values needs quotes: tokens, URLs and lists of hosts.
func env(v *Values) string {
	var b strings.Builder
	for _, variable := range [...]struct{ name, value string }{
		{"HTTP_PROXY", v.ProxyURL}, {"HTTPS_PROXY", v.ProxyURL}, {"NO_PROXY", v.NoProxy},
	} {
		if v.ProxyURL == "" {
			continue
		}
		for _, name := range [...]string{variable.name, strings.ToLower(variable.name)} {
			b.WriteString(name + "=" + variable.value + "\n")
		}
	}
	b.WriteString("SSL_CERT_FILE=" + path.Join(v.MountPath, v1alpha1.FileBundle) + "\n")
	return b.String()
}
