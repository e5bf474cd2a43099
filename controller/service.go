package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

// examineProxy keeps the Connector's Service and writes its address into the status.
func (r *Connectors) examineProxy(ctx context.Context, c *v1alpha1.Connector, f *findings) error {
	const kind = v1alpha1.ConditionProxyReady
	name := route.Connector{Namespace: c.Namespace, Name: c.Name}
	ours, err := r.ensureService(ctx, c)
	if err != nil {
		return err
	}
	bundle, err := r.proxyCA(ctx)
	if err != nil {
		return err
	}
	c.Status.Proxy.HTTPAddress = &v1alpha1.ProxyAddress{
		URL: "https://" + name.Host(r.ClusterDomain) + "/" + name.Format(), CABundle: bundle,
	}
	_, unusable := access.New(c)
	switch {
	case unusable != nil:
		f.nof(kind, v1alpha1.ReasonSpecUnusable, "%v; until it is corrected nobody can use it", unusable)
	case !ours:
		f.nof(kind, v1alpha1.ReasonServiceTaken,
			"Service '%s' is not as Berth made it, or was made by somebody else; delete it, and Berth makes it anew", v1alpha1.ServicePrefix+c.Name)
	case bundle == "":
		f.nof(kind, v1alpha1.ReasonAuthorityPending, "ConfigMap '%s' in '%s' is not there yet; Berth makes it by itself", v1alpha1.ProxyCA, v1alpha1.SystemNamespace)
	default:
		f.yes(kind, v1alpha1.ReasonServing, "Service '"+v1alpha1.ServicePrefix+c.Name+"' leads to the proxy")
	}
	return nil
}

// ensureService makes the Connector's Service where there is none. It reports
// whether the Service that is there leads to the proxy; it never changes one.
func (r *Connectors) ensureService(ctx context.Context, c *v1alpha1.Connector) (bool, error) {
	want, err := r.service(c)
	if err != nil {
		return false, err
	}
	var have corev1.Service
	err = r.Client.Get(ctx, client.ObjectKeyFromObject(want), &have)
	if apierrors.IsNotFound(err) {
		err = r.Client.Create(ctx, want.DeepCopy())
		if err == nil {
			return true, nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return false, fmt.Errorf("create Service '%s/%s': %w", want.Namespace, want.Name, err)
		}
		// Not in the cache, which holds those with our label: somebody else's, or ours of a moment ago.
		err = r.Reader.Get(ctx, client.ObjectKeyFromObject(want), &have)
	}
	if err != nil {
		return false, fmt.Errorf("read Service '%s/%s': %w", want.Namespace, want.Name, err)
	}
	return metav1.IsControlledBy(&have, c) && have.Spec.Type == want.Spec.Type && have.Spec.ExternalName == want.Spec.ExternalName, nil
}

func (r *Connectors) service(c *v1alpha1.Connector) (*corev1.Service, error) {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.Namespace, Name: v1alpha1.ServicePrefix + c.Name,
			Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.FieldManager},
		},
		Spec: corev1.ServiceSpec{
			Type:         corev1.ServiceTypeExternalName,
			ExternalName: v1alpha1.ProxyService + "." + v1alpha1.SystemNamespace + ".svc." + r.ClusterDomain,
		},
	}
	if err := controllerutil.SetControllerReference(c, s, r.Client.Scheme()); err != nil {
		return nil, fmt.Errorf("own Service '%s/%s': %w", s.Namespace, s.Name, err)
	}
	return s, nil
}

// proxyCA returns the PEM certificates that verify the proxy, or nothing while there are none.
func (r *Connectors) proxyCA(ctx context.Context) (string, error) {
	var published corev1.ConfigMap
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyCA}, &published)
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read ConfigMap '%s': %w", v1alpha1.ProxyCA, err)
	}
	return published.Data[v1alpha1.CACertKey], nil
}
