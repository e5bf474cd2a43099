package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
	"berth.dev/berth/controller"
	"berth.dev/berth/egress"
	"berth.dev/berth/rewrite"
	"berth.dev/berth/secret"
	"berth.dev/berth/token"
	"berth.dev/berth/webhook"
)

// eventBuffer holds events of changes that happen faster than they are queued.
const eventBuffer = 1024

// controllerOptions are the flags of `berth controller`.
type controllerOptions struct {
	processOptions

	configuration string
	printDefaults bool
	webhookPort   int
	out           outOptions
}

func controllerCommand() *cobra.Command {
	var o controllerOptions
	c := &cobra.Command{
		Use:   "controller",
		Short: "Run the webhook and the controllers",
		Long: "Run the admission webhook, in every replica, and the controllers, in the elected leader.\n" +
			"It needs the rights that the manifests give to the ServiceAccount 'berth-controller'.",
		Args: cobra.NoArgs,
		RunE: run(o.run),
	}
	o.add(c.Flags())
	c.Flags().StringVar(&o.configuration, "config", "", "configuration file; without one the defaults hold. It is read again when it changes")
	c.Flags().BoolVar(&o.printDefaults, "print-defaults", false, "print a configuration file with every field and its default, and end")
	o.out.add(c.Flags())
	c.Flags().IntVar(&o.webhookPort, "webhook-port", 9443, "port that serves the webhook over TLS")
	return c
}

func (o *controllerOptions) run(ctx context.Context) error {
	if o.printDefaults {
		return printDefaults(os.Stdout)
	}
	settings, err := newConfiguration(o.configuration)
	if err != nil {
		return err
	}
	minter := certs.NewMinter(webhookSubjects, time.Now)
	mgr, err := o.manager(controllerCaches(), func(m *ctrl.Options) {
		m.LeaderElection, m.LeaderElectionID, m.LeaderElectionNamespace = true, "berth-controller", v1alpha1.SystemNamespace
		m.LeaderElectionReleaseOnCancel = true
		m.WebhookServer = ctrlwebhook.NewServer(ctrlwebhook.Options{Port: o.webhookPort, TLSOpts: []func(*tls.Config){
			func(c *tls.Config) { c.GetCertificate, c.MinVersion = minter.GetCertificate, tls.VersionTLS12 },
		}})
	})
	if err != nil {
		return err
	}
	catalogue := &access.Catalogue{}
	changed := controller.NewSignal()
	connectors, err := fillCatalogue(ctx, mgr.GetCache(), catalogue, func(*v1alpha1.Connector) { changed.Give() })
	if err != nil {
		return err
	}
	secrets, err := watch(ctx, mgr.GetCache(), &corev1.Secret{}, func(s *corev1.Secret) { useAuthorities(minter, s, v1alpha1.WebhookServing) }, nil)
	if err != nil {
		return err
	}
	dialer, known, err := clusterDialer(ctx, mgr)
	if err != nil {
		return err
	}
	if err := errors.Join(mgr.Add(settings), control(ctx, mgr, settings.now().ClusterDomain, catalogue, changed, o.out.way(settings, dialer))); err != nil {
		return err
	}
	mgr.GetWebhookServer().Register(webhook.Path, &admission.Webhook{Handler: webhook.New(view{mgr.GetClient()}, catalogue, settings.now)})
	if err := ready(mgr, map[string]func() bool{"connectors": connectors, "secrets": secrets, "certificate": minter.Ready, "endpoints": known}); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func webhookSubjects(serverName string) ([]string, []netip.Addr) {
	if serverName != "" && serverName != controller.WebhookHost() {
		return nil, nil
	}
	return []string{controller.WebhookHost()}, nil
}

// controllerCaches are the objects that the controller may read, and no more.
func controllerCaches() map[client.Object]cache.ByObject {
	named := func(name string) cache.Config {
		return cache.Config{FieldSelector: fields.OneTermEqualSelector("metadata.name", name)}
	}
	return map[client.Object]cache.ByObject{
		&corev1.ConfigMap{}:          system(v1alpha1.ProxyCA),
		&discoveryv1.EndpointSlice{}: endpointSlices(),
		&v1alpha1.Connector{}:        {Transform: controller.LeanConnectors()},
		&corev1.Secret{}: {Namespaces: map[string]cache.Config{
			v1alpha1.SystemNamespace:       named(v1alpha1.WebhookServing),
			v1alpha1.InterceptionNamespace: {},
			cache.AllNamespaces:            named(v1alpha1.PullSecret),
		}},
		&corev1.Service{}: {
			Label:     labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.FieldManager}),
			Transform: controller.LeanService,
		},
	}
}

// control registers what the leader does.
func control(ctx context.Context, mgr ctrl.Manager, clusterDomain string, catalogue *access.Catalogue, changed controller.Signal, out *egress.Way) error {
	clients, err := kubernetes.NewForConfig(mgr.GetConfig())
	if err != nil {
		return err
	}
	secretsChanged := make(chan event.TypedGenericEvent[types.NamespacedName], eventBuffer)
	follower := secret.NewFollower(ctx, clients, func(name types.NamespacedName) {
		secretsChanged <- event.TypedGenericEvent[types.NamespacedName]{Object: name}
	})
	// A cache of its own: one cannot hold the Secrets of two names in all namespaces, and Berth may list no others.
	proxySecrets, err := cache.New(mgr.GetConfig(), cache.Options{
		Scheme: mgr.GetScheme(), DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: {Field: fields.OneTermEqualSelector("metadata.name", v1alpha1.ProxySecret)}},
	})
	if err != nil {
		return err
	}
	writer, reader, turned := mgr.GetClient(), mgr.GetAPIReader(), controller.NewSignal()
	keys := &controller.TokenKeys{Client: writer, Reader: reader, Rotation: token.Rotation{
		Every: tokenKeyLife, Keep: controller.ProxyTokenLife + token.PublishTime,
	}, Changed: func() { changed.Give(); turned.Give() }, Now: time.Now}
	for _, r := range []interface{ Setup(ctrl.Manager) error }{
		&controller.Connectors{
			Client: writer, Reader: reader, Secrets: follower, Changed: secretsChanged,
			Dial: out.DialContext, ClusterDomain: clusterDomain, Now: time.Now,
		},
		&controller.TokenSecrets{
			Kind: controller.PullSecret(catalogue, clusterDomain), Client: writer, Secrets: mgr.GetCache(),
			Changed: changed, Keys: keys.Keys, Now: time.Now,
		},
		&controller.TokenSecrets{Kind: controller.ProxySecret(), Client: writer, Secrets: proxySecrets, Changed: turned, Keys: keys.Keys, Now: time.Now},
	} {
		if err := r.Setup(mgr); err != nil {
			return err
		}
	}
	if err := errors.Join(mgr.Add(keys), mgr.Add(proxySecrets)); err != nil {
		return err
	}
	return addAuthorities(mgr, clusterDomain)
}

// tokenKeyLife is the age at which the key that signs berth tokens gets a successor.
const tokenKeyLife = 30 * 24 * time.Hour

func addAuthorities(mgr ctrl.Manager, clusterDomain string) error {
	writer, reader := mgr.GetClient(), mgr.GetAPIReader()
	for _, a := range []*controller.Authority{
		{
			Secret: v1alpha1.ProxyServing, Name: "Berth proxy",
			Scope: controller.ProxyScope(reader, clusterDomain), Publish: controller.PublishProxyCA(reader, writer),
		},
		{
			Secret: v1alpha1.WebhookServing, Name: "Berth webhook",
			Scope:   func(context.Context) (certs.Scope, error) { return controller.WebhookScope(), nil },
			Publish: controller.PublishWebhookCA(reader, writer),
		},
	} {
		a.Client, a.Reader, a.Now = writer, reader, time.Now
		if err := mgr.Add(a); err != nil {
			return err
		}
	}
	return nil
}

// useAuthorities lets a minter sign with the authorities in a Secret of that name.
func useAuthorities(minter *certs.Minter, s *corev1.Secret, name string) certs.Authorities {
	if s.Namespace != v1alpha1.SystemNamespace || s.Name != name {
		return nil
	}
	authorities, err := certs.ParseAuthorities(s.Data)
	if err != nil {
		ctrl.Log.Error(err, "go on with the certificate authority from before", "secret", name)
		return nil
	}
	minter.Use(authorities)
	return authorities
}

// view is what the webhook sees of the cluster: caches.
type view struct {
	cached client.Reader
}

// Namespace implements webhook.Cluster.
func (v view) Namespace(ctx context.Context, name string) (rewrite.Namespace, bool) {
	var n corev1.Namespace
	if err := v.cached.Get(ctx, types.NamespacedName{Name: name}, &n, uncopied()); err != nil {
		return rewrite.Namespace{}, false
	}
	return rewrite.Namespace{Name: name, Labels: n.Labels, Annotations: n.Annotations}, true
}

// HasPullSecret implements webhook.Cluster.
func (v view) HasPullSecret(ctx context.Context, namespace string) bool {
	var s corev1.Secret
	return v.cached.Get(ctx, types.NamespacedName{Namespace: namespace, Name: v1alpha1.PullSecret}, &s, uncopied()) == nil
}

// uncopied reads an object where the cache keeps it: it may not be changed.
func uncopied() client.GetOption {
	return &client.GetOptions{UnsafeDisableDeepCopy: new(true)}
}
