// Package v1alpha1 is the vocabulary of Berth: the kinds that people write
// (Connector, ConnectorClass), and every label, annotation, object name,
// condition and condition reason that more than one part of Berth, or a user,
// has to spell.
//
// A Connector says where a registry is, which Secret signs in to it, and which
// namespaces may use it for what. A ConnectorClass says what kind of server
// stands behind a Connector: which credentials it takes and how to tell that it
// lives and that the credential is good.
//
// The package imports apimachinery alone, so that anything may import it.
//
// +kubebuilder:object:generate=true
// +groupName=connectors.berth.dev
package v1alpha1
