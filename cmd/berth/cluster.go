package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
)

// processOptions are the flags of every process in the cluster.
type processOptions struct {
	healthAddress  string
	metricsAddress string
}

func (o *processOptions) add(flags *pflag.FlagSet) {
	flags.StringVar(&o.healthAddress, "health-address", ":8081", "address that serves /healthz and /readyz")
	flags.StringVar(&o.metricsAddress, "metrics-address", ":8080", "address that serves /metrics; '0' for none")
}

// manager returns a manager with caches of just the given objects.
func (o *processOptions) manager(objects map[client.Object]cache.ByObject, change func(*ctrl.Options)) (ctrl.Manager, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	options := ctrl.Options{
		Scheme: scheme, HealthProbeBindAddress: o.healthAddress, Metrics: metricsserver.Options{BindAddress: o.metricsAddress},
		Cache: cache.Options{ByObject: objects, DefaultTransform: cache.TransformStripManagedFields(), DefaultWatchErrorHandler: watchFailed},
	}
	if change != nil {
		change(&options)
	}
	return ctrl.NewManager(config, options)
}

// system caches one object of Berth's own namespace, by name.
func system(name string) cache.ByObject {
	return cache.ByObject{Namespaces: map[string]cache.Config{
		v1alpha1.SystemNamespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", name)},
	}}
}

// watch calls seen with each object of a kind that the cache holds, now and
// later, and gone with each that went. It reports, once the cache runs, whether
// seen was called for all.
func watch[T client.Object](ctx context.Context, informers cache.Informers, kind T, seen, gone func(T)) (synced func() bool, err error) {
	informer, err := informers.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch %T: %w", kind, err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { call(seen, o) },
		UpdateFunc: func(_, o any) { call(seen, o) },
		DeleteFunc: func(o any) {
			if final, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = final.Obj
			}
			call(gone, o)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watch %T: %w", kind, err)
	}
	return registration.HasSynced, nil
}

func call[T client.Object](f func(T), o any) {
	if typed, ok := o.(T); ok && f != nil {
		f(typed)
	}
}

// fillCatalogue keeps a catalogue as the cluster's Connectors are. After each
// change it calls changed.
func fillCatalogue(ctx context.Context, informers cache.Informers, catalogue *access.Catalogue, changed func(*v1alpha1.Connector)) (synced func() bool, err error) {
	log := ctrl.Log.WithName("catalogue")
	return watch(ctx, informers, &v1alpha1.Connector{},
		func(c *v1alpha1.Connector) {
			compiled, err := access.New(c)
			if err != nil {
				log.Error(err, "a Connector cannot be used")
				catalogue.Delete(route.Connector{Namespace: c.Namespace, Name: c.Name})
			} else {
				catalogue.Put(compiled)
			}
			changed(c)
		},
		func(c *v1alpha1.Connector) {
			catalogue.Delete(route.Connector{Namespace: c.Namespace, Name: c.Name})
			changed(c)
		})
}

// fillClasses keeps the classes of a catalogue as the cluster's are.
func fillClasses(ctx context.Context, informers cache.Informers, catalogue *access.Catalogue) (synced func() bool, err error) {
	return watch(ctx, informers, &v1alpha1.ConnectorClass{},
		func(c *v1alpha1.ConnectorClass) {
			compiled, err := access.NewClass(c)
			if err != nil {
				ctrl.Log.WithName("catalogue").Error(err, "a ConnectorClass cannot be used")
				catalogue.DeleteClass(c.Name)
				return
			}
			catalogue.PutClass(compiled)
		},
		func(c *v1alpha1.ConnectorClass) { catalogue.DeleteClass(c.Name) })
}

// ready makes conditions those of being ready.
func ready(mgr ctrl.Manager, conditions map[string]func() bool) error {
	for name, check := range checks(conditions) {
		if err := mgr.AddReadyzCheck(name, check); err != nil {
			return err
		}
	}
	return mgr.AddHealthzCheck("alive", healthz.Ping)
}

// checks are the conditions as health checks.
func checks(conditions map[string]func() bool) map[string]healthz.Checker {
	all := make(map[string]healthz.Checker, len(conditions))
	for name, ok := range conditions {
		all[name] = func(*http.Request) error {
			if !ok() {
				return fmt.Errorf("%s: not yet", name)
			}
			return nil
		}
	}
	return all
}
