package controller

import (
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api/v1alpha1"
)

// LeanService is a transform of a cache. It keeps of a Service what
// ensureService asks of it, whose it is and where it leads: there is one for
// every Connector.
func LeanService(cached any) (any, error) {
	s, ok := cached.(*corev1.Service)
	if !ok {
		return cached, nil
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: s.Name, ResourceVersion: s.ResourceVersion, OwnerReferences: s.OwnerReferences,
		},
		Spec: corev1.ServiceSpec{Type: s.Spec.Type, ExternalName: s.Spec.ExternalName},
	}, nil
}

// LeanConnectors returns a transform of a cache. It leaves out who manages which
// field of a Connector, and keeps the certificates of the proxy, which stand in
// the status of each, once.
func LeanConnectors() func(any) (any, error) {
	var last atomic.Pointer[string]
	return func(cached any) (any, error) {
		c, ok := cached.(*v1alpha1.Connector)
		if !ok {
			return cached, nil
		}
		c.ManagedFields = nil
		address := c.Status.Proxy.HTTPAddress
		if address == nil {
			return c, nil
		}
		if same := last.Load(); same != nil && *same == address.CABundle {
			address.CABundle = *same
		} else {
			last.Store(new(address.CABundle))
		}
		return c, nil
	}
}
