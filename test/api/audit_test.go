package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"gomodules.xyz/jsonpatch/v2"
)

// audit is the API server's audit log.
type audit struct {
	file string

	mu     sync.Mutex
	offset int64
	events []auditEvent
}

// auditEvent is what happened to a request.
type auditEvent struct {
	Verb      string
	ObjectRef struct{ Resource, Subresource, Namespace, Name string }
	// RequestObject names the Pod where it is created.
	RequestObject struct {
		Metadata struct{ Name string }
	}
	Annotations map[string]string
}

// find waits for the record of the last request of a verb about a Pod.
func (a *audit) find(ctx context.Context, verb, namespace, name, subresource string) (found auditEvent, err error) {
	err = eventually(ctx, "the audit log to tell of it", func(context.Context) error {
		events, err := a.read()
		if err != nil {
			return fmt.Errorf("%w: %w", errFinal, err)
		}
		for _, e := range events {
			about := e.ObjectRef.Name == name || e.RequestObject.Metadata.Name == name
			if e.Verb == verb && e.ObjectRef.Namespace == namespace && about && e.ObjectRef.Subresource == subresource {
				found, err = e, errNone
			}
		}
		if errors.Is(err, errNone) {
			return nil
		}
		return errNone
	})
	return found, err
}

var errNone = errors.New("nothing yet")

// read takes in what was appended.
func (a *audit) read() ([]auditEvent, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	file, err := os.Open(a.file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.NewSectionReader(file, a.offset, 1<<30))
	if err != nil {
		return nil, err
	}
	whole := content[:bytes.LastIndexByte(content, '\n')+1]
	a.offset += int64(len(whole))
	for line := range bytes.Lines(whole) {
		var e auditEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, err
		}
		a.events = append(a.events, e)
	}
	return a.events, nil
}

// rounds counts how often Berth was called for the request.
func (e auditEvent) rounds() (n int) {
	for key, value := range e.Annotations {
		if strings.HasPrefix(key, "mutation.webhook.admission.k8s.io/") && strings.Contains(value, `"pods.connectors.berth.dev"`) {
			n++
		}
	}
	return n
}

// patches are the operations that Berth asked for.
func (e auditEvent) patches() (all []jsonpatch.Operation, err error) {
	for key, value := range e.Annotations {
		var p struct {
			Webhook string
			Patch   []jsonpatch.Operation
		}
		if !strings.HasPrefix(key, "patch.webhook.admission.k8s.io/") {
			continue
		}
		if err := json.Unmarshal([]byte(value), &p); err != nil {
			return nil, err
		}
		if p.Webhook == "pods.connectors.berth.dev" {
			all = append(all, p.Patch...)
		}
	}
	return all, nil
}

// said is an annotation of Berth's own.
func (e auditEvent) said(key string) string { return e.Annotations["pods.connectors.berth.dev/"+key] }
