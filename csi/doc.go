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
//
// The node knows the names of Connectors and the proxy's address. It has no
// right on anything else.
package csi
