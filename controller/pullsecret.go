package controller

import (
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
	"berth.dev/berth/token"
)

// PullSecret is 'berth-pull': a token for kubelet's pulls, for the hosts of the
// Connectors that a namespace may use.
func PullSecret(connectors *access.Catalogue, clusterDomain string) TokenSecret {
	p := pullSecret{connectors, clusterDomain}
	return TokenSecret{
		Name: v1alpha1.PullSecret, kind: corev1.SecretTypeDockerConfigJson,
		audience: token.AudiencePull, life: PullTokenLife, renew: pullTokenRenew,
		content: p.content, held: p.held,
	}
}

type pullSecret struct {
	connectors    *access.Catalogue
	clusterDomain string
}

// hosts are the hosts, as globs, of the caller's own namespace and of those with
// a Connector that it may use: one a namespace, since one a Connector might
// pass what a Secret can hold.
func (p pullSecret) hosts(caller access.Caller) []string {
	hosts := []string{route.HostGlob(caller.Namespace, p.clusterDomain)}
	for _, c := range p.connectors.Visible(caller) {
		hosts = append(hosts, route.HostGlob(c.Namespace, p.clusterDomain))
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// dockerConfig is the content of a kubernetes.io/dockerconfigjson Secret.
type dockerConfig struct {
	Auths map[string]dockerAuth `json:"auths"`
}

type dockerAuth struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

func (p pullSecret) content(caller access.Caller, signed string) (map[string][]byte, error) {
	hosts := p.hosts(caller)
	config := dockerConfig{Auths: make(map[string]dockerAuth, len(hosts))}
	for _, host := range hosts {
		config.Auths[host] = dockerAuth{Username: tokenUser, Password: signed}
	}
	content, err := json.Marshal(config)
	return map[string][]byte{corev1.DockerConfigJsonKey: content}, err
}

// held returns the one token of all hosts, if the Secret has just these.
func (p pullSecret) held(caller access.Caller, content map[string][]byte) (signed string, ok bool) {
	hosts := p.hosts(caller)
	var config dockerConfig
	if json.Unmarshal(content[corev1.DockerConfigJsonKey], &config) != nil || len(config.Auths) != len(hosts) {
		return "", false
	}
	signed = config.Auths[hosts[0]].Password // there is always the namespace's own
	for _, host := range hosts {
		if config.Auths[host].Password != signed {
			return "", false
		}
	}
	return signed, true
}
