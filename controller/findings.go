package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/bearer"
	"berth.dev/berth/egress"
)

// conditions, but for Ready, in the order in which Ready looks for the first that is not True.
func conditions() []string {
	return []string{
		v1alpha1.ConditionConnectorClassReady, v1alpha1.ConditionSecretReady, v1alpha1.ConditionCACertReady,
		v1alpha1.ConditionProxyReady, v1alpha1.ConditionLivenessReady, v1alpha1.ConditionAuthReady,
	}
}

// findings become the conditions of a Connector.
type findings struct {
	connector *v1alpha1.Connector
}

func newFindings(c *v1alpha1.Connector) *findings { return &findings{c} }

func (f *findings) set(kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&f.connector.Status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: f.connector.Generation,
	})
}

func (f *findings) yes(kind, reason, message string) {
	f.set(kind, metav1.ConditionTrue, reason, message)
}

func (f *findings) nof(kind, reason, format string, args ...any) {
	f.set(kind, metav1.ConditionFalse, reason, fmt.Sprintf(format, args...))
}

func (f *findings) blocked(kind string) {
	f.set(kind, metav1.ConditionUnknown, v1alpha1.ReasonBlocked, errBlocked.Error())
}

// conclude sets Ready.
func (f *findings) conclude() {
	for _, kind := range conditions() {
		c := meta.FindStatusCondition(f.connector.Status.Conditions, kind)
		if c == nil || c.Status == metav1.ConditionTrue {
			continue
		}
		f.set(v1alpha1.ConditionReady, metav1.ConditionFalse, c.Reason, kind+": "+c.Message)
		return
	}
	f.yes(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "workloads can use the Connector")
}

// liveness takes the answer of the liveness probe and reports whether the registry lives.
func (f *findings) liveness(status int, err error) bool {
	const kind = v1alpha1.ConditionLivenessReady
	switch {
	case errors.Is(err, egress.ErrForbidden):
		f.nof(kind, v1alpha1.ReasonAddressForbidden, "%v; correct `spec.address` or the name's DNS record", err)
	case err != nil:
		f.nof(kind, v1alpha1.ReasonUnreachable, "%v", err)
	case status >= http.StatusInternalServerError:
		f.nof(kind, v1alpha1.ReasonServerError, "the registry answers with status %d", status)
	default:
		f.yes(kind, v1alpha1.ReasonAnswered, "the registry answers")
		return true
	}
	return false
}

// refused takes the answer of a registry, or of its token service, that does not take the credential.
func (f *findings) refused(status int, secret string) {
	f.nof(v1alpha1.ConditionAuthReady, v1alpha1.ReasonCredentialRefused,
		"the registry answers the credential with status %d; correct `username` and `password` in Secret '%s' (the next attempt comes after %s, or once the Secret changes)",
		status, secret, refusalTime)
}

// auth takes another answer of the auth probe; exchanged tells that the token service took the credential.
func (f *findings) auth(ctx context.Context, status int, exchanged bool, err error) {
	const kind = v1alpha1.ConditionAuthReady
	switch e, isToken := errors.AsType[*bearer.Error](err); {
	case isToken:
		f.token(ctx, e)
	case err != nil:
		f.nof(kind, v1alpha1.ReasonUnreachable, "%v", err)
	case status == http.StatusOK:
		f.yes(kind, v1alpha1.ReasonAccepted, "the registry takes the credential")
	case exchanged && (status == http.StatusUnauthorized || status == http.StatusForbidden):
		f.nof(kind, v1alpha1.ReasonRegistryDenied, "the registry's token service takes the credential, but the registry answers its token with status %d; its owner must grant the account more", status)
	default:
		f.nof(kind, v1alpha1.ReasonUnexpectedAnswer, "the registry answers the credential with status %d; is `spec.connectorClassName` right?", status)
	}
}

// token takes why there is no token.
func (f *findings) token(ctx context.Context, e *bearer.Error) {
	const kind = v1alpha1.ConditionAuthReady
	switch {
	case errors.Is(e, egress.ErrForbidden):
		f.nof(kind, v1alpha1.ReasonAddressForbidden, "the registry sends its clients to token service '%s': %v", e.Realm, cause(ctx, e.Err))
	case e.Err != nil && e.Reason == v1alpha1.ReasonUnreachable:
		f.nof(kind, e.Reason, "%s ('%s'): %v", e.Detail, e.Realm, cause(ctx, e.Err))
	case e.Err != nil:
		f.nof(kind, e.Reason, "%s ('%s'): %v", e.Detail, e.Realm, e.Err)
	default:
		f.nof(kind, e.Reason, "%s ('%s')", e.Detail, e.Realm)
	}
}

// refusalTime is how long a refused credential is not tried again.
const refusalTime = 5 * time.Minute

// refusals remember which credential of a Connector was refused. The zero value is empty and ready.
type refusals struct {
	mu   sync.Mutex
	last map[types.NamespacedName]refused
}

type refused struct {
	version string // of the Secret
	status  int
	at      time.Time
}

func (r *refusals) note(name types.NamespacedName, it refused) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[types.NamespacedName]refused{}
	}
	r.last[name] = it
}

func (r *refusals) forget(name types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, name)
}

// recent reports whether this version of the credential was refused a short time ago, and with what status.
func (r *refusals) recent(name types.NamespacedName, version string, now time.Time) (status int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.last[name]
	return last.status, ok && last.version == version && now.Before(last.at.Add(refusalTime))
}
