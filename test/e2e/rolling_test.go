package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
	"berth.dev/berth/test/lab"
	"berth.dev/berth/token"
)

// registryClient pushes and pulls through the proxy's Service, as a container of a namespace would, and tries nothing twice.
type registryClient struct {
	prefix  string
	options []remote.Option
}

func (w world) registryClient(n *corev1.Namespace, connector route.Connector) registryClient {
	w.Helper()
	signed, err := w.signingKeys().Sign(time.Now(), token.Claims{
		Namespace: n.Name, NamespaceUID: string(n.UID), Audience: token.AudienceProxy,
		IssuedAt: time.Now().Add(-time.Minute), Expires: time.Now().Add(time.Hour),
	})
	w.ok(err)
	var service corev1.Service
	w.ok(w.Client.Get(w.ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyService}, &service))
	var published corev1.ConfigMap
	w.ok(w.Client.Get(w.ctx, client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyCA}, &published))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(published.Data[v1alpha1.CACertKey]))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 16}
	w.Cleanup(transport.CloseIdleConnections)
	return registryClient{prefix: service.Spec.ClusterIP + "/" + connector.Format() + "/", options: []remote.Option{
		remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: "berth", Password: signed})),
		remote.WithTransport(transport), remote.WithJobs(2),
		remote.WithRetryPredicate(func(error) bool { return false }), remote.WithRetryStatusCodes(),
	}}
}

// push pushes a random image, and asks for what it pushed.
func (c registryClient) push(ctx context.Context, repository string) error {
	image, err := random.Image(2<<20, 2)
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(c.prefix + repository + ":v1")
	if err != nil {
		return err
	}
	options := append([]remote.Option{remote.WithContext(ctx)}, c.options...)
	if err := remote.Write(ref, image, options...); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	want, err := image.Digest()
	if err != nil {
		return err
	}
	if got, err := remote.Head(ref, options...); err != nil || got.Digest != want {
		return fmt.Errorf("asked for what was pushed: %v, want %s: %w", got, want, err)
	}
	return nil
}

// pull reads a whole image; the library compares each digest.
func (c registryClient) pull(ctx context.Context, image string) error {
	ref, err := name.ParseReference(c.prefix + image)
	if err != nil {
		return err
	}
	found, err := remote.Image(ref, append([]remote.Option{remote.WithContext(ctx)}, c.options...)...)
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	layers, err := found.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		content, err := layer.Compressed()
		if err != nil {
			return fmt.Errorf("pull a layer: %w", err)
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return fmt.Errorf("read a layer: %w", err)
		}
		if err := content.Close(); err != nil {
			return err
		}
	}
	return nil
}

// TestRollingRestart: both proxies are replaced under 200 pulls and 50 pushes, and none of them fails or is cut short.
func TestRollingRestart(t *testing.T) {
	w := enter(t)
	n := w.shop("rolling")
	connector := route.Connector{Namespace: n.Name, Name: "own"}
	w.ok(w.Connect(w.ctx, lab.Connector{Namespace: n.Name, Name: connector.Name}))
	image := w.push("20MiB")
	c := w.registryClient(n, connector)
	restarted, before := make(chan struct{}), w.proxyAddresses()

	var pulls, pushes atomic.Int32
	group, ctx := errgroup.WithContext(w.ctx)
	work := func(done *atomic.Int32, least int32, deed func(i int32) error) func() error {
		return func() error {
			for {
				select {
				case <-restarted:
					if done.Load() >= least {
						return nil
					}
				default:
				}
				i := done.Add(1)
				if err := deed(i); err != nil {
					return fmt.Errorf("number %d: %w", i, err)
				}
			}
		}
	}
	for range 8 {
		group.Go(work(&pulls, 200, func(int32) error { return c.pull(ctx, image[len("harbor.example.com/"):]) }))
	}
	for range 2 {
		group.Go(work(&pushes, 50, func(i int32) error { return c.push(ctx, fmt.Sprintf("test/rolling-%s-%d", n.Name, i)) }))
	}
	group.Go(func() error {
		defer close(restarted)
		if err := lab.Wait(ctx, patience, "the first pulls", func(context.Context) (bool, error) { return pulls.Load() > 10 && pushes.Load() > 2, nil }); err != nil {
			return err
		}
		return w.restartProxies(ctx)
	})
	w.ok(group.Wait())
	for address := range w.proxyAddresses() {
		if before[address] {
			t.Errorf("the proxy at %s was not replaced", address)
		}
	}
	t.Logf("%d pulls and %d pushes while both proxies were replaced: none failed", pulls.Load(), pushes.Load())
}

// restartProxies does what `kubectl rollout restart` does, and waits until the old Pods are gone.
func (w world) restartProxies(ctx context.Context) error {
	var d appsv1.Deployment
	key := client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyService}
	if err := w.Client.Get(ctx, key, &d); err != nil {
		return err
	}
	next := d.DeepCopy()
	if next.Spec.Template.Annotations == nil {
		next.Spec.Template.Annotations = map[string]string{}
	}
	next.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"] = time.Now().Format(time.RFC3339Nano)
	if err := w.Client.Patch(ctx, next, client.MergeFrom(&d)); err != nil {
		return err
	}
	return w.proxiesReplaced(ctx)
}

// proxiesReplaced waits until the proxies are those that the Deployment wants, and no other is left.
func (w world) proxiesReplaced(ctx context.Context) error {
	var d appsv1.Deployment
	key := client.ObjectKey{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ProxyService}
	return lab.Wait(ctx, 3*time.Minute, "both proxies to be replaced", func(ctx context.Context) (bool, error) {
		if err := w.Client.Get(ctx, key, &d); err != nil {
			return false, err
		}
		var pods corev1.PodList
		if err := w.Client.List(ctx, &pods, client.InNamespace(key.Namespace), client.MatchingLabels{"app.kubernetes.io/name": key.Name}); err != nil {
			return false, err
		}
		s := d.Status
		return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == *d.Spec.Replicas && s.AvailableReplicas == *d.Spec.Replicas && len(pods.Items) == int(*d.Spec.Replicas), nil
	})
}
