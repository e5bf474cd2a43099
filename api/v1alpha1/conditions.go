package v1alpha1

// The conditions of a Connector, in the order in which they are found out. A
// condition that depends on one that is False is Unknown with ReasonBlocked.
const (
	// ConditionConnectorClassReady: the class exists and takes the Connector's way to sign in.
	// Reasons: Found, ClassNotFound, AuthNotSupported.
	ConditionConnectorClassReady = "ConnectorClassReady"
	// ConditionSecretReady: the credential's Secret can be read and holds a credential.
	// Reasons: Found, NotNeeded, SecretNotFound, SecretForbidden, SecretTypeWrong, SecretEmpty, SecretUnreadable, CredentialInvalid.
	ConditionSecretReady = "SecretReady"
	// ConditionCACertReady: the Secret with the registry's authorities can be read and holds certificates.
	// Reasons: Found, NotNeeded, SecretNotFound, SecretForbidden, SecretEmpty, CertificateInvalid, SecretUnreadable.
	ConditionCACertReady = "CACertReady"
	// ConditionLivenessReady: the registry answers.
	// Reasons: Answered, Unreachable, AddressForbidden, ServerError, Blocked.
	ConditionLivenessReady = "LivenessReady"
	// ConditionAuthReady: the registry takes the credential.
	// Reasons: Accepted, NotNeeded, CredentialRefused, RegistryDenied, TokenServiceForbidden, ServerError, UnexpectedAnswer, Unreachable,
	// AddressForbidden, Blocked.
	ConditionAuthReady = "AuthReady"
	// ConditionProxyReady: the Connector's Service leads to the proxy, whose certificate authority is known.
	// Reasons: Serving, SpecUnusable, ServiceTaken, AuthorityPending.
	ConditionProxyReady = "ProxyReady"
	// ConditionReady: all of the above are True.
	// Reasons: Ready, or the reason of the first that is not True.
	ConditionReady = "Ready"
)

// The reasons of a Connector's conditions.
const (
	// ReasonReady: every condition is True.
	ReasonReady = "Ready"
	// ReasonFound: the object that the spec names exists and is sound.
	ReasonFound = "Found"
	// ReasonNotNeeded: the spec does not ask for it.
	ReasonNotNeeded = "NotNeeded"
	// ReasonBlocked: another condition must be True first.
	ReasonBlocked = "Blocked"
	// ReasonClassNotFound: no ConnectorClass has the name that the spec gives.
	ReasonClassNotFound = "ClassNotFound"
	// ReasonAuthNotSupported: the class does not list the Connector's `auth.name`.
	ReasonAuthNotSupported = "AuthNotSupported"
	// ReasonSecretNotFound: the Secret does not exist.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretForbidden: Berth has no right to read the Secret.
	ReasonSecretForbidden = "SecretForbidden"
	// ReasonSecretTypeWrong: the Secret's type is not the one that the class asks for.
	ReasonSecretTypeWrong = "SecretTypeWrong"
	// ReasonSecretEmpty: a key that is needed is missing or empty.
	ReasonSecretEmpty = "SecretEmpty"
	// ReasonCredentialInvalid: the Secret's user name or password cannot be what the registry knows.
	ReasonCredentialInvalid = "CredentialInvalid"
	// ReasonSecretUnreadable: the API server did not answer the question for the Secret.
	ReasonSecretUnreadable = "SecretUnreadable"
	// ReasonCertificateInvalid: the Secret's `ca.crt` holds no certificate.
	ReasonCertificateInvalid = "CertificateInvalid"
	// ReasonAnswered: the registry answered the liveness probe.
	ReasonAnswered = "Answered"
	// ReasonUnreachable: no connection to the registry, or no answer in time.
	ReasonUnreachable = "Unreachable"
	// ReasonAddressForbidden: the address resolves to one that Berth never dials.
	ReasonAddressForbidden = "AddressForbidden"
	// ReasonServerError: the registry answered with a status of 500 or more.
	ReasonServerError = "ServerError"
	// ReasonAccepted: the registry took the credential.
	ReasonAccepted = "Accepted"
	// ReasonCredentialRefused: the registry answered 401 or 403 to the credential.
	ReasonCredentialRefused = "CredentialRefused"
	// ReasonRegistryDenied: the registry takes the credential, but grants it less than the request needs.
	ReasonRegistryDenied = "RegistryDenied"
	// ReasonTokenServiceForbidden: the registry sends its clients to a token service that the credential may not go to.
	ReasonTokenServiceForbidden = "TokenServiceForbidden"
	// ReasonUnexpectedAnswer: the registry answered the auth probe with something else than 200, 401 or 403.
	ReasonUnexpectedAnswer = "UnexpectedAnswer"
	// ReasonServing: the Connector's Service leads to the proxy.
	ReasonServing = "Serving"
	// ReasonSpecUnusable: the API server took a spec that cannot be used, so Berth acts as if there were no such Connector.
	ReasonSpecUnusable = "SpecUnusable"
	// ReasonServiceTaken: a Service of the Connector's name exists that Berth did not make, or was changed.
	ReasonServiceTaken = "ServiceTaken"
	// ReasonAuthorityPending: the proxy's certificate authority does not exist yet.
	ReasonAuthorityPending = "AuthorityPending"
)
