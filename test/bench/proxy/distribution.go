package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/crypto/bcrypt"
)

const distributionConfig = `
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, maintenance: {uploadpurging: {enabled: false}}}
http: {addr: %q, secret: of the bench, tls: {certificate: %q, key: %q}}
auth: {htpasswd: {realm: bench, path: %q}}
`

// layers measures what a registry's users lose: with Distribution, which keeps what it gets and checks its digest, and a
// client that checks the digest of what it gets, as all do. Where proxies are compared with one another, neither end does
// more than it must: what the ends take of the processors hides what the proxies do.
func (s *stage) layers(ctx context.Context, out *results) error {
	if s.distribution == "" {
		fmt.Fprintln(os.Stderr, "SKIPPED: layers: '-distribution' names no program of the registry; `make bench-forward` has one")
		return nil
	}
	address, end, err := s.playDistribution(ctx)
	defer end()
	if err != nil {
		return err
	}
	defer func(before string) { s.registry = before }(s.registry)
	s.registry = address
	return s.throughLayers(ctx, out)
}

func (s *stage) throughLayers(ctx context.Context, out *results) error {
	ours, err := s.interceptByBerth(ctx)
	if err != nil {
		return err
	}
	defer ours.process.end()
	m := &comparison{stage: s, all: []*interceptor{ours, s.direct()}, out: out}
	digest := fmt.Sprintf("sha256:%x", sum(2*gib))
	blobs := "https://" + s.target() + "/v2/" + repository + "/blobs/"
	pushed, err := m.by(ctx, s.rounds, nil, mebis(), blobs+"uploads/", "-put", strconv.Itoa(2*gib), "-digest", digest)
	if err != nil {
		return err
	}
	m.tell("layer-push", mebis(), pushed, bar{"direct", 0.8, 0})
	pulled, err := m.by(ctx, s.rounds, nil, mebis(), blobs+digest, "-digest", digest)
	m.tell("layer-pull", mebis(), pulled, bar{"direct", 0.6, 0.8})
	return err
}

// sum is the digest of as many zeroes.
func sum(size int64) []byte {
	h := sha256.New()
	_, _ = io.CopyN(h, zeroes{}, size) // neither fails
	return h.Sum(nil)
}

// playDistribution starts Distribution, with its files in memory where there is a file system for that.
func (s *stage) playDistribution(ctx context.Context) (address string, end func(), err error) {
	files, err := os.MkdirTemp("/dev/shm", "berth-bench-")
	if err != nil {
		files = s.file("layers")
	}
	end = func() { _ = os.RemoveAll(files) }
	secret, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		return "", end, err
	}
	if address, err = free(ctx); err != nil {
		return "", end, err
	}
	config := fmt.Sprintf(distributionConfig, filepath.Join(files, "layers"), address, s.file("tls.crt"), s.file("tls.key"), s.file("htpasswd"))
	err = errors.Join(
		os.WriteFile(s.file("htpasswd"), fmt.Appendf(nil, "%s:%s\n", username, secret), 0o600),
		os.WriteFile(s.file("distribution.yaml"), []byte(config), 0o600),
	)
	if err != nil {
		return "", end, err
	}
	p, err := s.start(ctx, s.distribution, "serve", s.file("distribution.yaml"))
	if err != nil {
		return "", end, err
	}
	end = func() {
		p.end()
		_ = os.RemoveAll(files) // in memory, or with the stage
	}
	return address, end, s.listening(ctx, p, address)
}

// begin begins an upload, and returns where it goes on.
func (l *load) begin(ctx context.Context, client *http.Client) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, nil)
	if err != nil {
		return "", err
	}
	response, err := l.send(client, r)
	if err != nil {
		return "", err
	}
	to, err := response.Location()
	if err != nil {
		return "", errors.Join(err, response.Body.Close())
	}
	query := to.Query()
	query.Set("digest", l.digest)
	to.RawQuery = query.Encode()
	return to.String(), response.Body.Close()
}
