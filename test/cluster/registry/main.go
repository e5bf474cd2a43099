// Command registry is Distribution with the file system as its only store and
// htpasswd and token as its only ways to authenticate. Distribution's own
// command also compiles the SDKs of three clouds.
//
// It writes a line of JSON about each request to standard output: who called,
// with what, for what, and how it was answered. Distribution's own access log
// does not say the user, and its event log no status for what it refused.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"             // auth.htpasswd
	_ "github.com/distribution/distribution/v3/registry/auth/token"                // auth.token
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // storage.filesystem
)

func main() {
	registry.RegisterHandler(accessLog(os.Stdout))
	if registry.RootCmd.Execute() != nil {
		os.Exit(1)
	}
}
