package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ConnectorClass describes a kind of registry server. 'harbor' and 'oci' come with Berth; an administrator
// may add more.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=connclass,categories=berth
// +kubebuilder:printcolumn:name="Liveness",type=string,JSONPath=`.spec.probes.liveness.path`
// +kubebuilder:printcolumn:name="Auth",type=string,JSONPath=`.spec.probes.auth.path`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ConnectorClass struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec ConnectorClassSpec `json:"spec"`
}

// ConnectorClassList is a list of ConnectorClasses.
//
// +kubebuilder:object:root=true
type ConnectorClassList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ConnectorClass `json:"items"`
}

// ConnectorClassSpec says what a class of servers takes and how it is probed.
type ConnectorClassSpec struct {
	// auth lists the ways to sign in that the class takes, each with the type of Secret that it needs.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=8
	Auth []ClassAuth `json:"auth,omitempty"`

	// api lists what the action 'api' opens of the server's own API. Whatever makes, shows or sends credentials
	// (token services, logins, robots, users, registries, replication and webhook policies, configuration) is
	// refused also where it is listed.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	API []ClassAPI `json:"api,omitempty"`

	// configurations are sets of files that Pods can ask for by name, as templates: what the tools of the class's
	// servers are configured by.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Configurations []ClassConfiguration `json:"configurations,omitempty"`

	// probes are the requests that tell whether a server lives and takes the credential.
	//
	// +required
	Probes ClassProbes `json:"probes"`
}

// ClassAuth is a way to sign in.
type ClassAuth struct {
	// name by which a Connector's `auth.name` asks for it.
	//
	// +required
	// +kubebuilder:validation:Enum=basicAuth
	Name string `json:"name"`
	// secretType is the type that the Connector's Secret must have, for example 'kubernetes.io/basic-auth'.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	SecretType string `json:"secretType"`
}

// ClassAPI is some paths of a server's API, and the methods that they are opened for.
type ClassAPI struct {
	// methods, in upper case. Left out: GET and HEAD.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	Methods []APIMethod `json:"methods,omitempty"`
	// paths below the Connector's address, as patterns: '*' stands for one path segment or a part of it, '**' for
	// any number of segments.
	//
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:items:Pattern=`^(/[A-Za-z0-9._~*-]+)+$`
	Paths []string `json:"paths"`
}

// APIMethod is a method of HTTP that a class may open.
//
// +kubebuilder:validation:Enum=GET;HEAD;POST;PUT;PATCH;DELETE
type APIMethod string

// ClassConfiguration is a set of files that Pods can ask for by name.
type ClassConfiguration struct {
	// name by which Pods ask for it.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="`name` of a configuration must be a DNS label: lower-case letters, digits and '-', for example 'registry-config'"
	Name string `json:"name"`
	// files of the set. They stand side by side in the volume.
	//
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Files []ClassFile `json:"files"`
}

// ClassFile is a file of a configuration.
type ClassFile struct {
	// name of the file, without a folder.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9._-]+$') && !self.startsWith('..') && self != '.'",message="`name` of a file must be letters, digits, '.', '_' and '-', without a folder, and may not be '.' or begin with '..', for example 'config.json'"
	// +kubebuilder:validation:XValidation:rule="!(self in ['.env', 'http.proxy', 'https.proxy', 'ca.crt', 'ca-bundle.crt', 'truststore.p12', 'context.token', 'context.proxy.caCert'])",message="`name` of a file may not be that of a file which every volume has: call it otherwise"
	Name string `json:"name"`
	// template of the file's content, in Go's text/template. docs/spec/files.md lists the values and functions.
	//
	// +required
	// +kubebuilder:validation:MaxLength=65536
	Template string `json:"template"`
}

// ClassProbes are the requests that the controller sends to a registry.
type ClassProbes struct {
	// liveness is sent without a credential. Any answer below 500 says that the server lives.
	//
	// +required
	Liveness Probe `json:"liveness"`
	// auth is sent with the credential. An answer of 200 says that it is good, 401 or 403 that it is refused.
	//
	// +required
	Auth Probe `json:"auth"`
}

// Probe is a GET request.
type Probe struct {
	// path below the Connector's address.
	//
	// +required
	// +kubebuilder:validation:Pattern=`^/[A-Za-z0-9._~/-]*$`
	// +kubebuilder:validation:MaxLength=256
	Path string `json:"path"`
}
