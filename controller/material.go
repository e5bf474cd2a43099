package controller

import (
	"context"
	"errors"
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
	var problem *secret.Problem
	switch {
	case err == nil:
		f.yes(kind, v1alpha1.ReasonFound, "Secret '"+name+"'")
	case errors.As(err, &problem):
		f.no(kind, problem.Reason, "%v", problem)
	default:
		f.no(kind, v1alpha1.ReasonSecretUnreadable, "%v", err)
	}
}
