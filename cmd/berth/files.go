package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"berth.dev/berth/api/v1alpha1"
	volumes "berth.dev/berth/proxy/configuration"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/route"
)

// files is what the proxy knows for the files of volumes.
type files struct {
	classes      volumes.Classes
	interception volumes.Interception
	authority    atomic.Pointer[[]byte] // in PEM
}

// fill keeps the classes' configurations as the cluster's are.
func (f *files) fill(ctx context.Context, informers cache.Informers) (synced func() bool, err error) {
	return watch(ctx, informers, &v1alpha1.ConnectorClass{},
		func(c *v1alpha1.ConnectorClass) {
			if err := f.classes.Put(c); err != nil {
				ctrl.Log.WithName("files").Error(err, "a configuration cannot be used")
			}
		},
		func(c *v1alpha1.ConnectorClass) { f.classes.Delete(c.Name) })
}

// trust takes over what verifies the forward proxy for a Connector's hosts, as the status has it: before anything is signed with it.
func (f *files) trust(name route.Connector, c *v1alpha1.Connector) {
	if err := f.interception.Put(name, c.Status.Proxy.InterceptionCABundle); err != nil {
		ctrl.Log.WithName("files").Error(err, "a Connector's certificate authority cannot be used")
	}
}

func (f *files) authorities() []byte {
	if known := f.authority.Load(); known != nil {
		return *known
	}
	return nil
}

// handler answers for the files of volumes, and leaves all other requests to
// registries. Tokens go over TLS alone.
func (f *files) handler(k *knowledge, registries http.Handler) (http.Handler, error) {
	settings := k.settings.now() // as they are at the start: files that exist were made from them
	handler, err := volumes.New(volumes.Options{
		Catalogue: &k.catalogue, Classes: &f.classes, Identity: k.accounts, Authorities: f.authorities, Interception: &f.interception,
		Trusted: settings.TrustedNamespaces, ClusterDomain: k.domain, ForwardAddress: settings.Proxy.Address,
		APIServer: os.Getenv("KUBERNETES_SERVICE_HOST"), NoProxy: settings.Proxy.Unproxied(), Log: slog.Default(),
	})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && r.URL.Path == v1alpha1.FilesPath {
			handler.ServeHTTP(w, r)
			return
		}
		registries.ServeHTTP(w, r)
	}), nil
}

// serviceAccounts authenticates by the cluster's API server. How often it is
// asked is bounded there, and not by the client too.
func serviceAccounts(config *rest.Config, namespaces identity.Namespaces) (*identity.ServiceAccounts, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	reviews := clients.AuthenticationV1().TokenReviews()
	return identity.NewServiceAccounts(func(ctx context.Context, review *authenticationv1.TokenReview) (*authenticationv1.TokenReview, error) {
		answer, err := reviews.Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			ctrl.Log.WithName("files").Error(err, "ask the API server about a token")
		}
		return answer, err
	}, func(ctx context.Context) (keys jose.JSONWebKeySet, err error) {
		answer, err := clients.RESTClient().Get().AbsPath("/openid/v1/jwks").DoRaw(ctx)
		if err == nil {
			err = json.Unmarshal(answer, &keys)
		}
		if err != nil {
			ctrl.Log.WithName("files").Error(err, "ask the API server for the keys of ServiceAccount tokens")
		}
		return keys, err
	}, namespaces, time.Now), nil
}
