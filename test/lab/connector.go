package lab

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// Connector is what the owner of a registry writes: the Connector, its Secrets,
// and the right for Berth to read just those two.
type Connector struct {
	Namespace, Name string
	// Access is the YAML of `spec.access`, indented by two; empty: none.
	Access string
}

// Manifest is what is applied for a Connector to the upstream.
func (c Connector) Manifest(credential Credential) (string, error) {
	ca, err := os.ReadFile(credential.CAFile)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: %[2]s-credentials, namespace: %[1]s}
type: kubernetes.io/basic-auth
stringData: {username: %[3]q, password: %[4]q}
---
apiVersion: v1
kind: Secret
metadata: {name: %[2]s-ca, namespace: %[1]s}
data: {ca.crt: %[5]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: berth-reader-%[2]s, namespace: %[1]s}
rules:
- {apiGroups: [""], resources: [secrets], resourceNames: [%[2]s-credentials, %[2]s-ca], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: berth-reader-%[2]s, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: berth-reader-%[2]s}
subjects:
- {kind: ServiceAccount, name: berth-controller, namespace: berth-system}
- {kind: ServiceAccount, name: berth-proxy, namespace: berth-system}
---
apiVersion: connectors.berth.dev/v1alpha1
kind: Connector
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  connectorClassName: oci
  address: %[6]s
  auth: {name: basicAuth, secretRef: {name: %[2]s-credentials}}
  caCertSecretRef: {name: %[2]s-ca}
%[7]s`, c.Namespace, c.Name, credential.Username, credential.Password, base64.StdEncoding.EncodeToString(ca), credential.Address, c.Access), nil
}

// Connect applies a Connector to the upstream and waits until it is Ready, and
// until the node reaches the proxy: kube-proxy may be a moment behind.
func (l *Lab) Connect(ctx context.Context, c Connector) error {
	credential, err := l.Credential()
	if err != nil {
		return err
	}
	manifest, err := c.Manifest(credential)
	if err != nil {
		return err
	}
	if err := l.Apply(ctx, c.Namespace, manifest); err != nil {
		return err
	}
	_, err = l.Condition(ctx, client.ObjectKey{Namespace: c.Namespace, Name: c.Name}, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	if err != nil {
		return err
	}
	return Wait(ctx, proxyLimit, "the proxy's Service to be reached", func(ctx context.Context) (bool, error) {
		status, _, err := l.AskProxyWith(ctx, "", http.MethodGet, "/v2/")
		return status == http.StatusUnauthorized, err
	})
}

const proxyLimit = 30 * time.Second

// Condition waits until a Connector's condition has a status and a reason, and returns it.
func (l *Lab) Condition(ctx context.Context, name client.ObjectKey, kind string, status metav1.ConditionStatus, reason string) (found metav1.Condition, err error) {
	const limit = 45 * time.Second
	what := fmt.Sprintf("Connector '%s' to have %s=%s, %s", name, kind, status, reason)
	err = Wait(ctx, limit, what, func(ctx context.Context) (bool, error) {
		var c v1alpha1.Connector
		if err := l.Client.Get(ctx, name, &c); err != nil {
			return false, err
		}
		have := meta.FindStatusCondition(c.Status.Conditions, kind)
		if have == nil {
			return false, fmt.Errorf("no condition '%s' yet", kind)
		}
		found = *have
		if have.Status != status || have.Reason != reason || c.Status.ObservedGeneration != c.Generation {
			return false, fmt.Errorf("it has %s=%s, %s: %s", kind, have.Status, have.Reason, have.Message)
		}
		return true, nil
	})
	return found, err
}

// Namespace creates a Namespace with labels, given as key, value, key, value.
func (l *Lab) Namespace(ctx context.Context, name string, labels ...string) (*corev1.Namespace, error) {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for i := 0; i+1 < len(labels); i += 2 {
		n.Labels[labels[i]] = labels[i+1]
	}
	return n, l.Client.Create(ctx, n)
}
