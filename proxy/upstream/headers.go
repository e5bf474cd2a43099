package upstream

import (
	"net/http"
	"net/textproto"
	"strings"
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
	return out
}

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
// another method or path than the one that was checked.
func keptFromUpstream(name string) bool {
	switch name {
	case "Authorization", "Cookie", "Cookie2",
		"Forwarded", "Via", "X-Real-Ip",
		"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
		"X-Http-Method", "X-Http-Method-Override", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url":
		return true
	}
	return strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "X-Forwarded-")
}

// keepFromClient removes from a registry's response what is not for clients:
// challenges and cookies, which are Berth's to answer, what belongs to one
// connection, and what would lead clients around Berth.
func keepFromClient(h http.Header) {
	for name := range nominated(h) {
		delete(h, name)
	}
	for _, name := range [...]string{
		"Set-Cookie", "Set-Cookie2", "Www-Authenticate", "Authentication-Info", "Authorization",
		"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Connection",
		"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Alt-Svc", "Strict-Transport-Security", "Clear-Site-Data",
	} {
		delete(h, name)
	}
}
