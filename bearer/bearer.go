// Package bearer speaks the token authentication of registries: a registry that
// answers 401 with a challenge `Bearer realm="…"` sends its clients to a token
// service, which takes the credential and returns a token for some scopes.
//
//	c, ok := bearer.ParseChallenge(response.Header)
//	token, err := bearer.Exchange(ctx, transport, bearer.Request{Challenge: c, Scopes: scopes, Trust: trust, Authorize: basic.Authorize})
//	token.Authorize(request)
//
// The protocol is that of Distribution, "Token Authentication Specification"
// and "Token Scope Documentation".
//
// A challenge is the word of whoever answered, and it says where a password is
// to be sent. So a Trust decides: the credential goes to the registry's own
// host, to a host of the same registered domain, or to one that the Connector's
// owner has listed, over TLS, and nowhere else. A token service that redirects
// is not followed.
//
// The exchange is ours, though go-containerregistry has one (remote/transport,
// Ping and Exchange): that one sends the credential to any public host that a
// registry names, follows redirects, knows no path in a registry's address,
// tries https where the address says http, and puts what a token service
// answers, the token perhaps, into its errors.
package bearer

import (
	"slices"
	"strings"
)

// Scope is what a token is asked for, as `repository:team/app:pull,push`.
type Scope string

// The actions of a Scope. A class of servers may know others.
const (
	Pull   = "pull"
	Push   = "push"
	Delete = "delete"
)

// Repository returns the scope of actions on a repository.
func Repository(name string, actions ...string) Scope {
	return Scope("repository:" + name + ":" + strings.Join(actions, ","))
}

// Catalog returns the scope of listing the registry's repositories.
func Catalog() Scope { return "registry:catalog:*" }

// Covers reports whether a token of this scope is as good as one of the other.
func (s Scope) Covers(other Scope) bool {
	resource, actions := s.cut()
	wanted, wantedActions := other.cut()
	if resource != wanted {
		return false
	}
	granted := strings.Split(actions, ",")
	for action := range strings.SplitSeq(wantedActions, ",") {
		if !slices.Contains(granted, action) {
			return false
		}
	}
	return true
}

// cut cuts a scope into its resource, whose name may hold colons, and its actions.
func (s Scope) cut() (resource, actions string) {
	at := strings.LastIndexByte(string(s), ':')
	if at < 0 {
		return string(s), ""
	}
	return string(s[:at]), string(s[at+1:])
}
