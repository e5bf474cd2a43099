// Package harbor keeps the upstream registry's credential and pushes images to
// it, as an administrator of that registry would.
package harbor

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/bcrypt"

	"berth.dev/berth/test/cluster/layout"
)

// Credential is what a test needs to log in to the upstream. It is kept in
// harbor/credentials.json of the state directory, for root alone.
type Credential struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Address  string `json:"address"`
	CAFile   string `json:"caFile"`
}

// Random is a password or secret of 32 hexadecimal digits.
func Random() (string, error) {
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return "", fmt.Errorf("making a secret: %w", err)
	}
	return hex.EncodeToString(secret), nil
}

// SetPassword makes the upstream take the given password and no other. A
// running upstream takes notice at its next request.
func SetPassword(state layout.State, password string) error {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		return fmt.Errorf("hashing the upstream's password: %w", err)
	}
	credential, err := json.MarshalIndent(Credential{
		Username: layout.HarborUser, Password: password, Address: "https://" + layout.HarborName, CAFile: state.Harbor("ca.crt"),
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the upstream's credential: %w", err)
	}
	if err := replace(state.Harbor("htpasswd"), []byte(layout.HarborUser+":"+string(hash)+"\n")); err != nil {
		return err
	}
	return replace(state.Harbor("credentials.json"), append(credential, '\n'))
}

// Read reads the credential of a cluster that is up.
func Read(state layout.State) (Credential, error) {
	var credential Credential
	content, err := os.ReadFile(state.Harbor("credentials.json"))
	if err != nil {
		return credential, fmt.Errorf("reading the upstream's credential: %w; is the cluster up?", err)
	}
	if err := json.Unmarshal(content, &credential); err != nil {
		return credential, fmt.Errorf("reading '%s': not the JSON that `cluster up` wrote", state.Harbor("credentials.json"))
	}
	return credential, nil
}

// replace writes a file for root alone, at once: a reader sees the old content
// or the new.
func replace(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the upstream's directory: %w", err)
	}
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return fmt.Errorf("writing the upstream's credential: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("replacing the upstream's credential: %w", err)
	}
	return nil
}
