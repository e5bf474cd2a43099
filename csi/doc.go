// Package csi is Berth on a node: what makes a connector's host name mean
// Berth's proxy for the container runtime, which cannot resolve names of the
// cluster.
//
// For each Connector there is a folder below containerd's `config_path`:
//
//	/etc/containerd/certs.d/c-harbor.demo.svc.cluster.local/
//	    ca.crt      what verifies the proxy's certificate
//	    hosts.toml  leads to the address of the proxy's Service, over TLS
//
// containerd reads them at each pull: nothing is restarted, no registry is
// insecure, and they go as cleanly as they came. Both `server` and the host
// point to the proxy: any other server would be a way around its refusals.
// Which folder that is, containerd's own configuration says.
//
// CRI-O and Docker know no hosts.toml, and send a Pod's pull secret to the host
// of the image's name alone: there the name stays, with the certificate in a
// `certs.d`, and is found in /etc/hosts.
//
// All that is written begins with the same line, or in /etc/hosts ends in the
// same words; what does not is somebody else's. Whether it stands is said in an
// annotation of the Node, which then loses its startup taint.
//
// The node knows the names of Connectors and the proxy's address, and of Nodes
// what everybody may know. It has no right on anything else.
package csi
