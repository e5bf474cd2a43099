package controller

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api/v1alpha1"
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

// auth takes the answer of the auth probe.
func (f *findings) auth(status int, err error, secret string) {
	const kind = v1alpha1.ConditionAuthReady
	switch {
	case err != nil:
		f.nof(kind, v1alpha1.ReasonUnreachable, "%v", err)
	case status == http.StatusOK:
		f.yes(kind, v1alpha1.ReasonAccepted, "the registry takes the credential")
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		f.nof(kind, v1alpha1.ReasonCredentialRefused,
			"the registry answers the credential with status %d; correct `username` and `password` in Secret '%s' (the next attempt comes after %s, or once the Secret changes)",
			status, secret, refusalTime)
	default:
		f.nof(kind, v1alpha1.ReasonUnexpectedAnswer, "the registry answers the credential with status %d; is `spec.connectorClassName` right?", status)
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
