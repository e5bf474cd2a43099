// Package suite pins the conformance suite of the OCI distribution
// specification, which is a Go test: `make conformance` compiles it as it is.
package suite

import _ "github.com/opencontainers/distribution-spec/conformance" // its tests are what is compiled
