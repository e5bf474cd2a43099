package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/secret"
)

// secretWait is how long a Secret that was never seen is waited for.
const secretWait = 5 * time.Second

// material is what the Secrets of a Connector hold.
type material struct {
	basic     secret.Basic
	version   string // of the Secret with the credential
	basicErr  error
	caCert    []byte
	caCertErr error
}

// examineSecrets reads the Secrets that the Connector names.
func (r *Connectors) examineSecrets(ctx context.Context, c *v1alpha1.Connector, class *v1alpha1.ConnectorClass, f *findings) material {
	ctx, cancel := context.WithTimeout(ctx, secretWait)
	defer cancel()
	var m material
	switch {
	case c.Spec.Auth == nil:
		f.yes(v1alpha1.ConditionSecretReady, v1alpha1.ReasonNotNeeded, "the Connector names no Secret")
	case class == nil:
		m.basicErr = errBlocked
		f.blocked(v1alpha1.ConditionSecretReady)
	default:
		m.basic, m.version, m.basicErr = r.readBasic(ctx, c, class)
		f.secret(v1alpha1.ConditionSecretReady, c.Spec.Auth.SecretRef.Name, m.basicErr)
	}
	if c.Spec.CACertSecretRef == nil {
		f.yes(v1alpha1.ConditionCACertReady, v1alpha1.ReasonNotNeeded, "public authorities sign the registry's certificate")
		return m
	}
	m.caCert, m.caCertErr = r.readCACert(ctx, c)
	f.secret(v1alpha1.ConditionCACertReady, c.Spec.CACertSecretRef.Name, m.caCertErr)
	return m
}

func (r *Connectors) readBasic(ctx context.Context, c *v1alpha1.Connector, class *v1alpha1.ConnectorClass) (secret.Basic, string, error) {
	s, err := r.Secrets.Get(ctx, types.NamespacedName{Namespace: c.Namespace, Name: c.Spec.Auth.SecretRef.Name})
	if err != nil {
		return secret.Basic{}, "", err
	}
	basic, err := secret.ReadBasic(s, secretType(class, c.Spec.Auth.Name))
	return basic, s.ResourceVersion, err
}

func (r *Connectors) readCACert(ctx context.Context, c *v1alpha1.Connector) ([]byte, error) {
	s, err := r.Secrets.Get(ctx, types.NamespacedName{Namespace: c.Namespace, Name: c.Spec.CACertSecretRef.Name})
	if err != nil {
		return nil, err
	}
	return secret.ReadCACert(s)
}

func (f *findings) secret(kind, name string, err error) {
	problem, ok := errors.AsType[*secret.Problem](err)
	switch {
	case err == nil:
		f.yes(kind, v1alpha1.ReasonFound, "Secret '"+name+"'")
	case !ok:
		f.nof(kind, v1alpha1.ReasonSecretUnreadable, "%v", err)
	case problem.Reason == v1alpha1.ReasonSecretForbidden:
		f.nof(kind, problem.Reason, "Berth may not read Secret '%s'; let it read what this Connector names, and nothing else, by: %s", name, grant(f.connector))
	default:
		f.nof(kind, problem.Reason, "%v", problem)
	}
}

// grant is the command that lets Berth read the Secrets of a Connector.
func grant(c *v1alpha1.Connector) string {
	role := v1alpha1.CredentialReaderPrefix + c.Name
	var names strings.Builder
	for _, s := range SecretsOf(c) {
		names.WriteString(" --resource-name=" + s.Name)
	}
	return fmt.Sprintf("kubectl -n %[1]s create role %[2]s --verb=get,list,watch --resource=secrets%[3]s && "+
		"kubectl -n %[1]s create rolebinding %[2]s --role=%[2]s --serviceaccount=%[4]s:berth-controller --serviceaccount=%[4]s:berth-proxy",
		c.Namespace, role, names.String(), v1alpha1.SystemNamespace)
}
