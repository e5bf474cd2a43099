package configuration

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/proxy/identity"
)

// The keys of the log. No header, token or query ever stands under any of them.
const (
	keyNamespace = "namespace"
	keyStatus    = "status"
	keyReason    = "reason"
	keyError     = "error"
)

// retryAfter is when, in seconds, a node may ask again where something is missing for the moment.
const retryAfter = 5

// Authenticator finds out whose token a request carries.
type Authenticator interface {
	Authenticate(r *http.Request) (identity.Identity, error)
}

// Options are what New needs.
type Options struct {
	// Catalogue holds the Connectors.
	Catalogue *access.Catalogue
	// Classes hold their classes' configurations.
	Classes *Classes
	// Identity says whose token it is.
	Identity Authenticator
	// Authorities returns what verifies the proxy, in PEM; empty while it is not known.
	Authorities func() []byte
	// Interception holds what verifies the forward proxy where it speaks for a Connector's hosts.
	Interception *Interception
	// Trusted are the namespaces whose Connectors every Pod may be given without naming them.
	Trusted []string
	// ClusterDomain is the DNS suffix of Services, such as 'cluster.local'.
	ClusterDomain string
	// ForwardAddress is the forward proxy's 'host:port' as Pods reach it; empty: there is none.
	ForwardAddress string
	// APIServer is the API server's address as Pods reach it, and NoProxy more of what they reach without the proxy.
	APIServer string
	NoProxy   []string
	// Log gets a line for each volume that was made or refused.
	Log *slog.Logger
}

type handler struct {
	Options
	trusts *trusts
}

// New returns the handler of v1alpha1.FilesPath.
func New(o Options) (http.Handler, error) {
	trusts, err := newTrusts()
	return &handler{Options: o, trusts: trusts}, err
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		h.refuse(w, r, "", refuse(http.StatusMethodNotAllowed, ReasonMethod, "method '%s' is not supported; use GET", shorten(r.Method)))
		return
	}
	caller, err := h.Identity.Authenticate(r)
	if err != nil {
		h.refuse(w, r, "", unauthenticated(err))
		return
	}
	v, err := h.volume(r, caller)
	if err != nil {
		h.refuse(w, r, caller.Namespace, err)
		return
	}
	h.answer(w, r, v)
}

// volume finds all that goes into the files.
func (h *handler) volume(r *http.Request, caller identity.Identity) (*volume, error) {
	a, err := parseAttributes(r.URL.Query(), caller.Namespace)
	if err != nil {
		return nil, err
	}
	connectors, err := h.connectors(a, caller.Caller)
	if err != nil {
		return nil, err
	}
	parts, err := h.parts(a.configurations, connectors[:min(len(connectors), most)])
	if err != nil {
		return nil, err
	}
	authorities := h.Authorities()
	if len(authorities) == 0 {
		return nil, refuse(http.StatusServiceUnavailable, ReasonNotReady, "the proxy's certificate authority is not there yet; it is tried again")
	}
	authorities = h.Interception.after(authorities, connectors)
	token := identity.Bearer(r)
	return &volume{parts: parts, trusts: h.trusts, values: Values{
		Namespace: caller.Namespace, Token: token, MountPath: a.mountPath,
		ProxyURL: proxyURL(h.ForwardAddress, a.connectors, token),
		NoProxy:  noProxy(h.ClusterDomain, h.APIServer, h.NoProxy),
		CAFile:   a.mountPath + "/" + v1alpha1.FileCA, BundleFile: a.mountPath + "/" + v1alpha1.FileBundle,
		CACert: string(authorities),
	}}, nil
}

// answer sends the files, or says that the node has them.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, v *volume) {
	generation := v.generation()
	tag := strconv.Quote(generation)
	w.Header().Set("Etag", tag)
	w.Header().Set("Cache-Control", "no-store")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	files, err := v.files(strings.Split(r.Header.Get(v1alpha1.FilesHave), ","))
	if err != nil {
		h.refuse(w, r, v.values.Namespace, err)
		return
	}
	h.Log.LogAttrs(r.Context(), slog.LevelInfo, "files", slog.String(keyNamespace, v.values.Namespace), slog.Int(keyStatus, http.StatusOK))
	files.Generation = generation
	send(w, http.StatusOK, files)
}

// refuse says why there are no files.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, namespace string, err error) {
	var no *Refusal
	if !errors.As(err, &no) {
		no = refuse(http.StatusInternalServerError, "", "the files could not be made; the proxy's log says why")
	}
	level := slog.LevelInfo
	if no.Status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	h.log(r.Context(), level, namespace, no, err)
	w.Header().Del("Etag")
	switch no.Status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+v1alpha1.Group+`"`)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodGet)
	default:
	}
	send(w, no.Status, v1alpha1.FilesError{Message: no.Message})
}

func (h *handler) log(ctx context.Context, level slog.Level, namespace string, no *Refusal, err error) {
	h.Log.LogAttrs(ctx, level, "files refused", slog.String(keyNamespace, namespace), slog.Int(keyStatus, no.Status),
		slog.String(keyReason, no.Reason), slog.String(keyError, strings.TrimSpace(err.Error())))
}

func send(w http.ResponseWriter, status int, answer any) {
	body, _ := cbor.Marshal(answer) // strings and bytes always marshal
	w.Header().Set("Content-Type", v1alpha1.FilesMediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // no browser takes it for a page
}
