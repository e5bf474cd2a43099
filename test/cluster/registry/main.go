// Command registry is Distribution with the file system as its only store and
// htpasswd and token as its only ways to authenticate. Distribution's own
// command also compiles the SDKs of three clouds.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"             // auth.htpasswd
	_ "github.com/distribution/distribution/v3/registry/auth/token"                // auth.token
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // storage.filesystem
)

func main() {
	if registry.RootCmd.Execute() != nil {
		os.Exit(1)
	}
}
