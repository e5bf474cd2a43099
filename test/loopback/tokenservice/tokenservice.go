// Package tokenservice is the smallest true token service for a registry: what
// Distribution's "Token Authentication Specification" asks for, and no more.
//
// A client comes with a user's password, by Basic authentication, and the
// scopes that it would like, as `repository:team/app:pull,push`. The service
// looks up in a table which of these actions the user has, and returns a JWT
// (RS256, with its certificate in the header) that grants just those; the
// registry trusts the certificate. A wrong password is 401. Whoever has no
// password is nobody, and is granted what the table grants to nobody, as the
// token services of public registries do.
package tokenservice

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Grant is a row of the table: a user may do Actions with the resources of a
// type and name. The name '*' is every one; the user ” is nobody.
type Grant struct {
	User, Type, Name string
	Actions          []string
}

// Options are what a Service is made of.
type Options struct {
	// Issuer and Service are what the registry's configuration names.
	Issuer, Service string
	// Users are names and their passwords.
	Users map[string]string
	// Grants is the table.
	Grants []Grant
	// Life is how long tokens are good; 0 is five minutes.
	Life time.Duration
}

// Exchange is one request and how it was answered.
type Exchange struct {
	// User has shown their password; it is empty where nobody asked.
	User   string
	Scopes []string
	Status int
}

// Service is a token service.
type Service struct {
	Options

	certificate []byte
	signer      jose.Signer

	mu   sync.Mutex
	seen []Exchange
}

const (
	keySize     = 2048
	defaultLife = 5 * time.Minute
)

// New makes a service with a key and certificate of its own.
func New(o Options) (*Service, error) {
	if o.Life == 0 {
		o.Life = defaultLife
	}
	key, err := rsa.GenerateKey(rand.Reader, keySize)
	if err != nil {
		return nil, fmt.Errorf("make the key of the token service: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: o.Issuer}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of the token service: %w", err)
	}
	chain := []string{base64.StdEncoding.EncodeToString(certificate)}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("x5c", chain))
	if err != nil {
		return nil, fmt.Errorf("make the signer of the token service: %w", err)
	}
	return &Service{Options: o, certificate: certificate, signer: signer}, nil
}

// Certificate is what the registry must trust, in PEM.
func (s *Service) Certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate})
}

// Seen returns the requests that it has answered so far.
func (s *Service) Seen() []Exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	scopes := scopesOf(r)
	user, status := s.authenticate(r)
	s.mu.Lock()
	s.seen = append(s.seen, Exchange{User: user, Scopes: scopes, Status: status})
	s.mu.Unlock()
	if status != http.StatusOK {
		w.Header().Set("Www-Authenticate", `Basic realm="the token service"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"no such user and password"}]}`, status)
		return
	}
	token, err := s.sign(user, s.granted(user, scopes), time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": int(s.Life.Seconds())}) //nolint:errchkjson // a client that is gone needs no token
}

// scopesOf splits what may stand in several parameters, or in one with spaces.
func scopesOf(r *http.Request) []string {
	return strings.Fields(strings.Join(r.URL.Query()["scope"], " "))
}

func (s *Service) authenticate(r *http.Request) (user string, status int) {
	switch user, password, given := r.BasicAuth(); {
	case r.Method != http.MethodGet, r.URL.Query().Get("service") != s.Service:
		return "", http.StatusBadRequest
	case !given && r.Header.Get("Authorization") == "":
		return "", http.StatusOK
	case !given || s.Users[user] == "" || s.Users[user] != password:
		return "", http.StatusUnauthorized
	default:
		return user, http.StatusOK
	}
}

// access is one entry of a token's claim of that name.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// granted returns of the scopes what the table allows.
func (s *Service) granted(user string, scopes []string) []access {
	all := []access{}
	for _, scope := range scopes {
		kind, rest, _ := strings.Cut(scope, ":")
		at := strings.LastIndexByte(rest, ':')
		if at < 0 {
			continue
		}
		a := access{Type: kind, Name: rest[:at], Actions: []string{}}
		for action := range strings.SplitSeq(rest[at+1:], ",") {
			if s.allows(user, a, action) {
				a.Actions = append(a.Actions, action)
			}
		}
		all = append(all, a)
	}
	return all
}

func (s *Service) allows(user string, a access, action string) bool {
	return slices.ContainsFunc(s.Grants, func(g Grant) bool {
		return g.User == user && g.Type == a.Type && (g.Name == "*" || g.Name == a.Name) && slices.Contains(g.Actions, action)
	})
}

func (s *Service) sign(user string, granted []access, now time.Time) (string, error) {
	return jwt.Signed(s.signer).Claims(jwt.Claims{
		Issuer: s.Issuer, Subject: user, Audience: jwt.Audience{s.Service}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(s.Life)),
	}).Claims(map[string]any{"access": granted}).Serialize()
}
