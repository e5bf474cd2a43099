package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	username, password = "robot", "correct-horse"
	bearer             = "bench-token"
	repository         = "bench/app"
	// hashing is what the token registry spends on each password.
	hashing = 100 * time.Millisecond
)

// playRegistry serves a registry from memory over TLS. A blob's digest tells its size. With -tokens it has
// a token service, and spends time on each password. With -plain it serves the same in clear, too.
func playRegistry(ctx context.Context, args []string) error {
	collectSeldom()
	flags := flag.NewFlagSet("registry", flag.ContinueOnError)
	address, plain := flags.String("address", "", ""), flags.String("plain", "", "")
	certificate, key := flags.String("certificate", "", ""), flags.String("key", "", "")
	tokens := flags.Bool("tokens", false, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r := &registry{address: *address, tokens: *tokens, chunk: make([]byte, 1<<20), manifest: []byte(strings.Repeat("m", 1500))}
	if r.tokens {
		r.rounds = calibrate(hashing)
	}
	server := &http.Server{Addr: *address, Handler: r, ReadHeaderTimeout: time.Minute, TLSNextProto: noHTTP2()}
	front := &http.Server{Addr: *plain, Handler: r, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = errors.Join(server.Close(), front.Close()) })
	ended := make(chan error, 2)
	go func() { ended <- server.ListenAndServeTLS(*certificate, *key) }()
	if *plain != "" {
		go func() { ended <- front.ListenAndServe() }()
	}
	return <-ended
}

type registry struct {
	address         string
	tokens          bool
	rounds          int // of hash, for each password
	chunk, manifest []byte
}

// ServeHTTP implements http.Handler.
func (g *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.authorised(r) {
		if g.tokens {
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="https://%s/token",service="bench",scope="repository:%s:pull"`, g.address, repository))
		} else {
			w.Header().Set("Www-Authenticate", `Basic realm="bench"`)
		}
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.URL.Path == "/token" {
		_, _ = fmt.Fprintf(w, `{"token":%q,"expires_in":1800,"issued_at":%q}`, bearer, time.Now().UTC().Format(time.RFC3339))
		return
	}
	if r.Method == http.MethodPut {
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 256<<10))
		if err != nil || n != r.ContentLength {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Location", "/v2/"+repository+"/blobs/"+r.URL.Query().Get("digest"))
		w.WriteHeader(http.StatusCreated)
		return
	}
	if digest, ok := strings.CutPrefix(r.URL.Path, "/v2/"+repository+"/blobs/sha256:"); ok {
		g.blob(w, digest)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	w.Header().Set("Docker-Content-Digest", fmt.Sprintf("sha256:%064x", 1))
	w.Header().Set("Content-Length", strconv.Itoa(len(g.manifest)))
	_, _ = w.Write(g.manifest)
}

func (g *registry) authorised(r *http.Request) bool {
	if g.tokens && r.Header.Get("Authorization") == "Bearer "+bearer {
		return true
	}
	user, shown, ok := r.BasicAuth()
	if ok && g.tokens {
		hash(g.rounds)
	}
	return ok && user == username && shown == password
}

// hash does the work of a password hash.
func hash(rounds int) {
	sum := sha256.Sum256(nil)
	for range rounds {
		sum = sha256.Sum256(sum[:])
	}
}

// calibrate returns how many rounds of hash take as long, on a processor that nobody else uses.
func calibrate(long time.Duration) int {
	const trial = 20_000
	best := time.Hour
	for range 20 {
		start := time.Now()
		hash(trial)
		best = min(best, time.Since(start))
	}
	return int(trial * long / best)
}

func (g *registry) blob(w http.ResponseWriter, digest string) {
	size, err := strconv.ParseInt(digest, 16, 64)
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	for size > 0 {
		n, err := w.Write(g.chunk[:min(size, int64(len(g.chunk)))])
		if err != nil {
			return
		}
		size -= int64(n)
	}
}

const uploadPath = repository + "/blobs/uploads/bench?digest=sha256:0000000000000000000000000000000000000000000000000000000000000001"

func blobPath(size int64) string { return fmt.Sprintf("%s/blobs/sha256:%064x", repository, size) }
