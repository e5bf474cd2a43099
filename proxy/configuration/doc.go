// Package configuration makes the files of CSI volumes: what a container needs
// to use Connectors by hand, and that a build tool is configured by.
//
// A node asks for a Pod, with the Pod's own ServiceAccount token:
//
//	GET /configuration/v1/files?connectors=demo/harbor&configurations=registry-config
//	Authorization: Bearer …
//	If-None-Match: "5f1c…"
//
// The proxy finds out whose token it is, asks each Connector's `access`, and
// answers with all files: those that every volume has (who reaches the proxy
// how, and whom to trust), and those of the configurations, which are templates
// in the Connectors' classes. What is in the files opens nothing that the Pod's
// token does not open: no credential of a registry comes through here.
//
// All Connectors of a volume share its files: one config.json has an entry for
// each. So a configuration that several of their classes offer must read the same
// in all of them, and no two configurations may write the same file; where they
// do, the answer says so.
//
// Templates are an administrator's, but a mistake in one must not take the proxy
// with it. They run in a room of their own: only functions that are listed here,
// which read nothing outside and return the same for the same; values, output
// and the amount of work are bounded, and none of the bounds is a clock, so that
// a template that runs once runs always. A template has no other templates
// inside, so that it cannot call itself.
//
// Nothing is rendered while nothing changed: the generation is a hash of what
// goes in, so that any replica of the proxy can answer 304.
package configuration
