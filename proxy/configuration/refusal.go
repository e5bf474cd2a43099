package configuration

import (
	"errors"
	"fmt"
	"net/http"

	"berth.dev/berth/proxy/identity"
)

// The reasons for which there are no files, as the log has them.
const (
	ReasonNoToken      = "NoToken"
	ReasonTokenRefused = "TokenRefused"
	ReasonNotVerified  = "NotVerified"
	ReasonInvalid      = "Invalid"
	ReasonUnknown      = "Unknown"
	ReasonForbidden    = "Forbidden"
	ReasonTemplate     = "Template"
	ReasonConflict     = "Conflict"
	ReasonNotReady     = "NotReady"
	ReasonMethod       = "Method"
)

// Refusal says why there are no files: a status for the node, and words for the
// events of the Pod.
type Refusal struct {
	// Status is the HTTP status.
	Status int
	// Reason is for the log.
	Reason string
	// Message says what is wrong and what to do. It holds nothing of a token.
	Message string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

func refuse(status int, reason, format string, arguments ...any) *Refusal {
	return &Refusal{Status: status, Reason: reason, Message: fmt.Sprintf(format, arguments...)}
}

func invalid(format string, arguments ...any) *Refusal {
	return refuse(http.StatusBadRequest, ReasonInvalid, format, arguments...)
}

// unauthenticated says why it is not known who asks.
func unauthenticated(err error) *Refusal {
	switch {
	case errors.Is(err, identity.ErrNoCredentials):
		return refuse(http.StatusUnauthorized, ReasonNoToken, "the request carries no ServiceAccount token")
	case errors.Is(err, identity.ErrUnavailable):
		return refuse(http.StatusServiceUnavailable, ReasonNotVerified, "the Pod's token cannot be checked now, since the API server does not answer; it is tried again")
	default:
		return refuse(http.StatusUnauthorized, ReasonTokenRefused, "the Pod's token is not accepted: %v", err)
	}
}
