package loopback

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"golang.org/x/crypto/bcrypt"
	"k8s.io/apimachinery/pkg/util/rand"

	"berth.dev/berth/test/loopback/tokenservice"
)

// Registry is a registry that demands a credential, and how to reach it.
type Registry struct {
	// Address is `https://localhost:PORT`, and a path where it has one. Clients follow a challenge to a token service of
	// this machine only by a name.
	Address string
	// Username and Password are the only ones that it takes.
	Username, Password string
	// Tokens is its token service, if it has one.
	Tokens *tokenservice.Service
	// Seen returns the requests that it has answered so far.
	Seen func() []Request
	// storage is where Distribution keeps what it has.
	storage string
	// tokens is where its token service is.
	tokens string
	// passwords is its htpasswd file.
	passwords string
}

// Request is one that a registry has answered.
type Request struct {
	// Scheme is of the Authorization: Basic, Bearer, or nothing.
	Scheme string `json:"auth"`
	Method string `json:"method"`
	URI    string `json:"uri"`
	Status int    `json:"status"`
}

// Realm is where its token service is.
func (r *Registry) Realm() string { return r.tokens }

const distribution = `
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: "%[1]s"}
  delete: {enabled: true}
http:
  addr: "%[2]s"
  secret: "of the site"
  tls: {certificate: "%[3]s", key: "%[4]s"}
catalog: {maxentries: 1000}
auth: %[5]s
`

// robot is a name that must be quoted nowhere and is quoted often.
const robot = "robot$berth"

// Basic starts Distribution with one user and their password.
func (s *Site) Basic() *Registry {
	s.Helper()
	r := &Registry{Username: robot, Password: rand.String(24)}
	hash, err := bcrypt.GenerateFromPassword([]byte(r.Password), bcrypt.MinCost)
	s.OK(err)
	r.passwords = s.Write(rand.String(8)+".htpasswd", r.Username+":"+string(hash)+"\n")
	s.distribution(r, fmt.Sprintf(`{htpasswd: {realm: the site, path: %q}}`, r.passwords))
	return r
}

// Token starts Distribution with a token service of its own. Its challenges
// lead to the realm, or to the token service itself where that is empty.
func (s *Site) Token(realm string) *Registry {
	s.Helper()
	r := &Registry{Username: robot, Password: rand.String(24)}
	service, err := tokenservice.New(tokenservice.Options{
		Issuer: "site", Service: "registry of the site", Users: map[string]string{r.Username: r.Password},
		Grants: []tokenservice.Grant{
			{User: r.Username, Type: "repository", Name: "*", Actions: []string{"pull", "push", "delete"}},
			{User: r.Username, Type: "registry", Name: "catalog", Actions: []string{"*"}},
		},
	})
	s.OK(err)
	r.Tokens = service
	r.tokens = s.Serve(service) + "/token"
	if realm == "" {
		realm = r.tokens
	}
	bundle := s.Write(rand.String(8)+".pem", string(service.Certificate()))
	s.distribution(r, fmt.Sprintf(`{token: {realm: %q, service: registry of the site, issuer: site, rootcertbundle: %q, signingalgorithms: [RS256]}}`, realm, bundle))
	return r
}

func (s *Site) distribution(r *Registry, auth string) {
	s.Helper()
	program := s.Program(EnvRegistry, "registry", "run this through `make`")
	certificate, key := s.Authority.IssueFiles(rand.String(8))
	r.storage = s.Path("storage-" + rand.String(8))
	port := s.Port()
	file := s.Write(rand.String(8)+".yaml", fmt.Sprintf(distribution, r.storage, local(port), certificate, key, auth))
	process := s.Start("Distribution", program, "serve", file)
	r.Address = named(port)
	r.Seen = func() []Request { return seen(process.Log()) }
	s.answers(process, r.Address+"/v2/")
}

// seen reads the lines of an access log; others are not JSON.
func seen(log string) []Request {
	var all []Request
	for line := range strings.Lines(log) {
		var r Request
		if json.NewDecoder(bytes.NewReader([]byte(line))).Decode(&r) == nil && r.Method != "" {
			all = append(all, r)
		}
	}
	return all
}

// referrersPage is about one descriptor, so that a list of three is three pages.
const referrersPage = 400

// Referrers starts olareg behind Basic, in the test's process.
func (s *Site) Referrers() *Registry {
	s.Helper()
	r := &Registry{Username: robot, Password: rand.String(24)}
	yes := true
	server := olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreMem},
		API: config.ConfigAPI{
			DeleteEnabled: &yes, Blob: config.ConfigAPIBlob{DeleteEnabled: &yes},
			Referrer: config.ConfigAPIReferrer{Limit: referrersPage},
		},
	})
	s.Cleanup(func() { _ = server.Close() })
	r.Address = s.Serve(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if user, password, ok := request.BasicAuth(); !ok || user != r.Username || password != r.Password {
			w.Header().Set("Www-Authenticate", `Basic realm="the site"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		server.ServeHTTP(w, request)
	}))
	return r
}
