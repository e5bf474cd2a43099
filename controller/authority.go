package controller

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
)

// Authority keeps one certificate authority in a Secret of Berth's own
// namespace, and publishes what verifies it before anything is signed with it.
// It is a manager.Runnable of the leader.
type Authority struct {
	// Client writes, Reader reads from the API server.
	Client client.Client
	Reader client.Reader
	// Secret is its name, and Name the authority's in its certificates.
	Secret, Name string
	// Scope returns what the authority is to speak for.
	Scope func(ctx context.Context) (certs.Scope, error)
	// Publish makes the bundle known to clients.
	Publish func(ctx context.Context, bundle []byte) error
	// Now is the clock.
	Now func() time.Time
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*Authority) NeedLeaderElection() bool { return true }

// Start keeps the authority until the context ends.
func (a *Authority) Start(ctx context.Context) error {
	return repeat(ctx, "keep the authority '"+a.Name+"'", a.Now, a.step)
}

func (a *Authority) step(ctx context.Context) (time.Time, error) {
	scope, err := a.Scope(ctx)
	if err != nil {
		return time.Time{}, err
	}
	stored, err := readSecret(ctx, a.Reader, a.Secret)
	if err != nil {
		return time.Time{}, err
	}
	have, err := certs.ParseAuthorities(stored.Data)
	if err != nil {
		return time.Time{}, fmt.Errorf("read Secret '%s': %w; delete it, and Berth makes a new authority", a.Secret, err)
	}
	next, changed, again, err := have.Step(a.Name, scope, a.Now())
	if err != nil {
		return time.Time{}, err
	}
	// Published first: whoever reads the Secret may sign at once.
	if err := a.Publish(ctx, next.Bundle()); err != nil {
		return time.Time{}, err
	}
	if !changed {
		return again, nil
	}
	data, err := next.Marshal()
	if err != nil {
		return time.Time{}, err
	}
	return again, writeSecret(ctx, a.Client, stored, data)
}

// ProxyScope is the scope of the proxy's authority: every Service name, and the addresses of the proxy's own Service.
func ProxyScope(reader client.Reader, clusterDomain string) func(context.Context) (certs.Scope, error) {
	return func(ctx context.Context) (certs.Scope, error) {
		var service corev1.Service
		if err := reader.Get(ctx, types.NamespacedName{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyService}, &service); err != nil {
			return certs.Scope{}, fmt.Errorf("read Service '%s': %w", v1alpha1.ProxyService, err)
		}
		scope := certs.Scope{Domains: []string{"svc." + clusterDomain, "svc"}}
		for _, text := range service.Spec.ClusterIPs {
			ip, err := netip.ParseAddr(text)
			if err != nil {
				return certs.Scope{}, fmt.Errorf("the Service '%s' must have a cluster IP, and has '%s': it may not be headless", v1alpha1.ProxyService, text)
			}
			scope.Addresses = append(scope.Addresses, ip)
		}
		return scope, nil
	}
}

// PublishProxyCA writes the proxy's bundle into its ConfigMap.
func PublishProxyCA(reader client.Reader, c client.Client) func(context.Context, []byte) error {
	return func(ctx context.Context, bundle []byte) error {
		return publish(ctx, reader, c, v1alpha1.ProxyCA, map[string]string{v1alpha1.CACertKey: string(bundle)})
	}
}

// WebhookScope is the scope of the webhook's authority: the names of its Service.
func WebhookScope() certs.Scope {
	return certs.Scope{Domains: []string{WebhookHost()}}
}

// WebhookHost is the name by which the API server calls the webhook.
func WebhookHost() string {
	return v1alpha1.WebhookService + "." + v1alpha1.SystemNamespace + ".svc"
}

// PublishWebhookCA writes the webhook's bundle into its MutatingWebhookConfiguration.
func PublishWebhookCA(reader client.Reader, c client.Client) func(context.Context, []byte) error {
	return func(ctx context.Context, bundle []byte) error {
		var config admissionv1.MutatingWebhookConfiguration
		if err := reader.Get(ctx, types.NamespacedName{Name: v1alpha1.WebhookConfiguration}, &config); err != nil {
			return fmt.Errorf("read MutatingWebhookConfiguration '%s': %w", v1alpha1.WebhookConfiguration, err)
		}
		changed := false
		for i := range config.Webhooks {
			if ca := &config.Webhooks[i].ClientConfig.CABundle; !bytes.Equal(*ca, bundle) {
				*ca, changed = bundle, true
			}
		}
		if !changed {
			return nil
		}
		if err := c.Update(ctx, &config); err != nil {
			return fmt.Errorf("write MutatingWebhookConfiguration '%s': %w", v1alpha1.WebhookConfiguration, err)
		}
		return nil
	}
}
