package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/manifest"
)

// clusterTimeout is how long a cluster has to answer one question.
const clusterTimeout = 15 * time.Second

// clusterOptions say which cluster is meant, if any.
type clusterOptions struct {
	kubeconfig, context string
}

func (o *clusterOptions) add(flags *pflag.FlagSet, usage string) {
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", usage)
	flags.StringVar(&o.context, "context", "", "context of the kubeconfig")
}

func (o *clusterOptions) asked() bool { return o.kubeconfig != "" || o.context != "" }

// client returns one that knows just the two kinds, so that it need not ask
// which kinds the cluster serves.
func (o *clusterOptions) client() (client.Client, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.Timeout = clusterTimeout
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion, v1alpha1.GroupVersion()})
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot)
	mapper.Add(v1alpha1.GroupVersion().WithKind("Connector"), meta.RESTScopeNamespace)
	return client.New(config, client.Options{Scheme: scheme, Mapper: mapper})
}

// addTo adds the cluster's Connectors, and the Namespaces of the workloads.
func (o *clusterOptions) addTo(ctx context.Context, around *manifest.Surroundings, inputs []input) error {
	cluster, err := o.client()
	if err != nil {
		return err
	}
	var connectors v1alpha1.ConnectorList
	if err := cluster.List(ctx, &connectors); err != nil {
		return notAsked("list its Connectors", "`list` `connectors."+v1alpha1.Group+"` in all namespaces", err)
	}
	for i := range connectors.Items {
		if err := around.AddConnector(&connectors.Items[i]); err != nil {
			return fmt.Errorf("of the cluster: %w", err)
		}
	}
	return addNamespaces(ctx, cluster, around, inputs)
}

func addNamespaces(ctx context.Context, cluster client.Reader, around *manifest.Surroundings, inputs []input) error {
	names := map[string]bool{}
	for _, in := range inputs {
		of, err := around.Namespaces(in.Stream)
		if err != nil {
			return err
		}
		maps.Copy(names, of)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		var n corev1.Namespace
		err := cluster.Get(ctx, client.ObjectKey{Name: name}, &n)
		if apierrors.IsNotFound(err) {
			continue // the manifests may make it
		}
		if err != nil {
			return notAsked("read its Namespace '"+name+"'", "`get` `namespaces`", err)
		}
		around.AddNamespace(&n)
	}
	return nil
}

// notAsked says what a user needs where the cluster does not answer.
func notAsked(what, right string, err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("ask the cluster to %s: %w; you need the right to %s, or give the objects by --connectors and --namespace-file", what, err, right)
	}
	return fmt.Errorf("ask the cluster to %s: %w", what, err)
}
