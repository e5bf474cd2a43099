package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/fxamacker/cbor/v2"
	"k8s.io/apimachinery/pkg/util/yaml"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
	"berth.dev/berth/proxy/configuration"
	"berth.dev/berth/proxy/identity"
	"berth.dev/berth/route"
)

// classesFile has the classes that come with Berth, as from the repository's root.
const classesFile = "manifests/base/classes.yaml"

// filesServer is the proxy as nodes know it: the files of volumes, over TLS on loopback.
type filesServer struct {
	address   netip.AddrPort
	authority []byte // PEM
	server    *http.Server
}

// shopper takes every token for one of namespace 'shop'. Who a caller is, is measured elsewhere.
type shopper struct{}

func (shopper) Authenticate(*http.Request) (identity.Identity, error) {
	return identity.Identity{Caller: access.Caller{Namespace: own}}, nil
}

// serveFiles serves what the handler for an authority answers, until it is closed.
func serveFiles(ctx context.Context, handlerOf func(authority []byte) (http.Handler, error)) (*filesServer, error) {
	name := v1alpha1.ProxyService + "." + v1alpha1.SystemNamespace + ".svc"
	authority, err := certs.NewAuthority("bench", certs.Scope{Domains: []string{name}}, time.Now())
	if err != nil {
		return nil, err
	}
	leaf, err := authority.Leaf(time.Now(), []string{name}, nil)
	if err != nil {
		return nil, err
	}
	s := &filesServer{authority: certs.Authorities{authority}.Bundle()}
	handler, err := handlerOf(s.authority)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.address = netip.MustParseAddrPort(listener.Addr().String())
	s.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{*leaf}, MinVersion: tls.VersionTLS12},
	}
	go func() { _ = s.server.ServeTLS(listener, "", "") }() // it ends by Close
	return s, nil
}

// close ends the server; nothing that fails then is measured.
func (s *filesServer) close() { _ = s.server.Close() }

// oneFile answers with one file that is always the same.
func oneFile([]byte) (http.Handler, error) {
	answer, err := cbor.Marshal(v1alpha1.Files{Generation: "constant", Files: map[string][]byte{"file": []byte("constant")}})
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(answer)
	}), err
}

// filesHandler makes files for one Connector, of a class that comes with Berth, with an authority of its own.
func filesHandler(authority []byte) (http.Handler, error) {
	o := configuration.Options{
		Catalogue: &access.Catalogue{}, Classes: &configuration.Classes{}, Interception: &configuration.Interception{}, Identity: shopper{},
		Authorities: func() []byte { return authority }, ClusterDomain: v1alpha1.ClusterDomain,
		ForwardAddress: "berth-proxy.berth-system.svc:3128", Log: slog.New(slog.DiscardHandler),
	}
	c := connector(0, own, "harbor", "https://harbor.example.com")
	compiled, err := access.New(c)
	if err != nil {
		return nil, err
	}
	o.Catalogue.Put(compiled)
	if err := o.Interception.Put(route.Connector{Namespace: own, Name: "harbor"}, string(authority)); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(classesFile)
	if err != nil {
		return nil, fmt.Errorf("run this at the repository's root: %w", err)
	}
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), len(text)); ; {
		var class v1alpha1.ConnectorClass
		if err := decoder.Decode(&class); errors.Is(err, io.EOF) {
			return configuration.New(o)
		} else if err != nil {
			return nil, err
		}
		if err := o.Classes.Put(&class); err != nil {
			return nil, err
		}
	}
}
