package upstream

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"berth.dev/berth/proxy/credential"
)

// outbound returns the headers of a client's request that a registry may see.
func outbound(client http.Header) http.Header {
	nominated := nominated(client)
	out := make(http.Header, len(client)+1)
	for name, values := range client {
		if !keptFromUpstream(name) && !nominated[name] {
			out[name] = values
		}
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = noUserAgent // else net/http would write one of its own
	}
	return out
}

//nolint:gochecknoglobals // it does not change
var noUserAgent = []string{""}

// nominated are the headers that the client's Connection header makes hop-by-hop (RFC 9110 §7.6.1).
func nominated(h http.Header) map[string]bool {
	if len(h["Connection"]) == 0 {
		return nil
	}
	names := map[string]bool{}
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			names[textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))] = true
		}
	}
	return names
}

// keptFromUpstream reports whether a header of the client is none of the
// registry's business: it signs the client in, tells of the way that the
// request took, belongs to one connection, or would make the registry see
// another method, path or host than the one that was checked. A name with '_'
// may be any of these to a server that takes '_' for '-'.
func keptFromUpstream(name string) bool {
	switch name {
	case "Authorization", "Cookie", "Cookie2", "X-Api-Key", "X-Auth-Token", "X-Jfrog-Art-Api", "X-Registry-Auth", "X-Registry-Config", "Private-Token", "Job-Token",
		"Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "True-Client-Ip", "X-Remote-User", "Remote-User",
		"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Expect", "Content-Length", "Host",
		"X-Http-Method", "X-Http-Method-Override", "X-Method-Override", "X-Original-Method",
		"X-Original-Url", "X-Original-Uri", "X-Rewrite-Url", "X-Original-Host", "X-Host", "X-Artifactory-Override-Base-Url":
		return true
	}
	return strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "X-Forwarded") || strings.IndexByte(name, '_') >= 0
}

// keepFromClient removes from a registry's response what is not for clients,
// and whatever holds what authorised the request.
func keepFromClient(h http.Header, authorised credential.Authorization) {
	nominated := nominated(h)
	for name, values := range h {
		if keptFromClient(name) || nominated[name] || slices.ContainsFunc(values, authorised.In) {
			delete(h, name)
		}
	}
}

// keptFromClient reports whether a header of a registry is not for clients:
// challenges and cookies, which are Berth's to answer, what belongs to one
// connection, and what would lead clients around Berth.
func keptFromClient(name string) bool {
	switch name {
	case "Set-Cookie", "Set-Cookie2", "Www-Authenticate", "Authentication-Info", "Authorization",
		"X-Auth-Token", "X-Subject-Token", "X-Harbor-Csrf-Token", "X-Registry-Auth",
		"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Connection",
		"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Alt-Svc", "Strict-Transport-Security", "Clear-Site-Data":
		return true
	}
	return false
}
