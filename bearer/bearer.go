// Package bearer speaks the token authentication of registries: a registry that
// answers 401 with a challenge `Bearer realm="…"` sends its clients to a token
// service, which takes the credential and returns a token for some scopes.
//
// The protocol is that of Distribution, "Token Authentication Specification"
// and "Token Scope Documentation".
package bearer

import "strings"

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
