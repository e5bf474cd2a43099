// Package event tells a namespace, by Kubernetes Events, why its requests failed.
//
// A runtime that is refused asks by HEAD, whose answer has no body, so the Pod's
// own events say that the pull failed, and not why. The proxy knows why, and
// says so in the namespace that asked:
//
//	Warning  ActionRefused  secret/berth-pull  namespace 'demo' may not push 'test/abc' through Connector …
//
// An Event is about the Secret with the namespace's token, 'berth-pull' or
// 'berth-proxy', since that is who called; the proxy does not know of Pods. Events that repeat are counted up in
// one, many that differ are put together, and a namespace that fails without end
// gets a handful and then one each few minutes. Telling never waits: where the
// API server is slow, Events are dropped.
package event

import (
	"context"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"berth.dev/berth/api/v1alpha1"
)

const (
	component = "berth-proxy"
	// burst and perSecond are what one namespace is told at most.
	burst     = 20
	perSecond = 1. / 120
	// mostNamespaces bounds those that are remembered.
	mostNamespaces = 4096
	// longest is what the API server takes of a message, in bytes.
	longest = 1024
)

// Teller writes Events. Make it by NewTeller. Safe for concurrent use.
type Teller struct {
	recorder record.EventRecorder
	secret   string
}

// NewTeller returns a teller that writes until the context ends, about pull secrets.
func NewTeller(ctx context.Context, clients kubernetes.Interface) *Teller {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx), record.WithCorrelatorOptions(record.CorrelatorOptions{
		QPS: perSecond, BurstSize: burst, LRUCacheSize: mostNamespaces,
	}))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: clients.CoreV1().Events("")})
	recorder := broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: component})
	// Without a log: it would have a line for each Event that is dropped.
	return &Teller{recorder: recorder.WithLogger(logr.Discard()), secret: v1alpha1.PullSecret}
}

// About returns a teller about another Secret; what a namespace is told at most is one for both.
func (t *Teller) About(secret string) *Teller { return &Teller{recorder: t.recorder, secret: secret} }

// Event writes a warning into a namespace. The reason is one of docs/reasons.md;
// the message is for people, and is cut where the API server would not take it.
func (t *Teller) Event(namespace, reason, message string) {
	about := &corev1.ObjectReference{APIVersion: "v1", Kind: "Secret", Namespace: namespace, Name: t.secret}
	t.recorder.Event(about, corev1.EventTypeWarning, reason, cut(message))
}

// cut returns a message that is short enough, without half a character at its end.
func cut(message string) string {
	if len(message) <= longest {
		return message
	}
	const end = "…"
	at := longest - len(end)
	for at > 0 && message[at]&0xC0 == 0x80 { // within a character of UTF-8
		at--
	}
	return message[:at] + end
}
