package csi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	lru "github.com/hashicorp/golang-lru/v2"

	"berth.dev/berth/api/v1alpha1"
)

const (
	// askTimeout bounds a question to the proxy; kubelet asks again.
	askTimeout = 20 * time.Second
	// dialTimeout bounds a connection to one of its addresses.
	dialTimeout = 5 * time.Second
	// maxAnswer is more than the files of a volume are, in base64.
	maxAnswer = 16 << 20
	// maxRest is what may come after an answer, or is read of one that is no good.
	maxRest = 64 << 10
	// greatContent is how long a content is that other volumes are likely to share, such as the authorities to trust,
	// and mostContents how many of those are remembered.
	greatContent = 64 << 10
	mostContents = 16
)

// proxyName is what the proxy's certificate is for, whichever of its addresses is dialled.
const proxyName = v1alpha1.ProxyService + "." + v1alpha1.SystemNamespace + ".svc"

// Refusal is the proxy's word for why a volume gets no files.
type Refusal struct {
	// Status is that of HTTP.
	Status int
	// Message is for the Pod's events.
	Message string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// errNoProxy: the node does not know yet where the proxy is.
var errNoProxy = errors.New("this node does not know yet where Berth's proxy is; it is tried again. If it stays: kubectl -n berth-system get service,configmap")

// Source asks Berth's proxy for the files of volumes. Make it by NewSource. Safe for concurrent use.
type Source struct {
	proxy func(context.Context) (Proxy, error)

	mu     sync.Mutex
	known  Proxy
	client *http.Client

	// contents are the great ones of other volumes, by digest.
	contents *lru.Cache[string, []byte]
}

// NewSource returns a source that asks the proxy that the node knows.
func NewSource(n *Node) *Source {
	contents, _ := lru.New[string, []byte](mostContents) // fails only for a size below 1
	return &Source{proxy: n.proxy, contents: contents}
}

// Files returns the files of a volume for who holds the token; nil: the
// generation is still the one that the volume has. The error is a *Refusal
// where the proxy answered; none holds anything of the token.
func (s *Source) Files(ctx context.Context, token, generation string, attributes url.Values) (*v1alpha1.Files, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	proxy, client, err := s.reach(ctx)
	if err != nil {
		return nil, err
	}
	address := url.URL{
		Scheme: "https", Host: net.JoinHostPort(proxyName, strconv.Itoa(int(proxy.Port))),
		Path: v1alpha1.FilesPath, RawQuery: attributes.Encode(),
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if generation != "" {
		request.Header.Set("If-None-Match", strconv.Quote(generation))
	}
	have := s.have()
	request.Header.Set(v1alpha1.FilesHave, strings.Join(slices.Collect(maps.Keys(have)), ","))
	response, err := client.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok { // it says the whole URL
			err = wrapped.Err
		}
		return nil, fmt.Errorf("ask Berth's proxy at %v: %w; is it running? kubectl -n berth-system get pods", proxy.Addresses, err)
	}
	defer func() {
		_, _ = io.CopyN(io.Discard, response.Body, maxRest) // only then is the connection used again
		_ = response.Body.Close()
	}()
	files, err := read(response)
	if err != nil || files == nil {
		return nil, err
	}
	return files, s.complete(files, have)
}

// have returns what is remembered, which may be forgotten before the answer is there.
func (s *Source) have() map[string][]byte {
	all := map[string][]byte{}
	for _, digest := range s.contents.Keys() {
		if content, ok := s.contents.Peek(digest); ok {
			all[digest] = content
		}
	}
	return all
}

// complete puts in what was not sent, and remembers what was.
func (s *Source) complete(files *v1alpha1.Files, have map[string][]byte) error {
	for _, content := range files.Files {
		if len(content) >= greatContent {
			s.contents.Add(v1alpha1.FilesDigest(content), content)
		}
	}
	if files.Files == nil {
		files.Files = map[string][]byte{}
	}
	for name, digest := range files.Same {
		content, ok := have[digest]
		if !ok {
			return fmt.Errorf("the proxy left out the content of file %q, which this node has not", name)
		}
		files.Files[name] = content
		s.contents.Get(digest) // it was of use
	}
	return nil
}

// read reads the proxy's answer.
func read(response *http.Response) (*v1alpha1.Files, error) {
	switch body := io.LimitReader(response.Body, maxAnswer); response.StatusCode {
	case http.StatusNotModified:
		return nil, nil //nolint:nilnil // nothing changed, and nothing is wrong
	case http.StatusOK:
		var files v1alpha1.Files
		if err := cbor.NewDecoder(body).Decode(&files); err != nil {
			return nil, errors.New("read the proxy's answer: it is cut off, or no CBOR") // the decoder's words have some of it
		}
		return &files, nil
	default:
		var refused v1alpha1.FilesError
		if err := cbor.NewDecoder(body).Decode(&refused); err != nil || refused.Message == "" {
			refused.Message = "Berth's proxy answers with '" + response.Status + "'; are the proxy and the node plugin of one version?"
		}
		return nil, &Refusal{Status: response.StatusCode, Message: refused.Message}
	}
}

// reach returns the proxy as it is now, with a client whose connections lead there and nowhere else.
func (s *Source) reach(ctx context.Context) (Proxy, *http.Client, error) {
	proxy, err := s.proxy(ctx)
	if err != nil {
		return Proxy{}, nil, err
	}
	if !proxy.ready() {
		return Proxy{}, nil, errNoProxy
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil && s.known.Port == proxy.Port && slices.Equal(s.known.Addresses, proxy.Addresses) && bytes.Equal(s.known.CACert, proxy.CACert) {
		return proxy, s.client, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(proxy.CACert) {
		return Proxy{}, nil, fmt.Errorf("the ConfigMap '%s' of '%s' holds no certificate", v1alpha1.ProxyCA, v1alpha1.SystemNamespace)
	}
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
	s.known = proxy
	s.client = &http.Client{
		Transport: &http.Transport{
			DialContext:     dial(proxy.Addresses, proxy.Port),
			TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: proxyName, MinVersion: tls.VersionTLS12},
			MaxIdleConns:    4, MaxIdleConnsPerHost: 4, IdleConnTimeout: 2 * time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return proxy, s.client, nil
}

// dial returns what dials the addresses one after the other, whatever name it is given.
func dial(addresses []netip.Addr, port uint16) func(context.Context, string, string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var errs []error
		for _, address := range addresses {
			connection, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(address, port).String())
			if err == nil {
				return connection, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
}
