package endpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

const (
	// maxCatalog is what one page of repositories may take: more than 10,000 of the longest names.
	maxCatalog = 4 << 20
	// maxAccount bounds what a server says about an account.
	maxAccount = 1 << 20
)

// CatalogPath lists the repositories of a registry.
const CatalogPath = Prefix + "_catalog"

// Whole makes a request ask for an answer that can be read and changed: all of it, and not compressed.
func Whole(h http.Header) {
	for _, name := range [...]string{"Accept-Encoding", "Range", "If-None-Match", "If-Modified-Since"} {
		h.Del(name)
	}
}

// FilterCatalog leaves, in a page of the catalogue, the repositories that are to be kept.
func FilterCatalog(r *http.Response, keep func(repository string) bool) error {
	if r.StatusCode/100 != 2 {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxCatalog+1))
	switch {
	case err != nil:
		return errors.New("its list of repositories broke off")
	case len(body) > maxCatalog:
		return fmt.Errorf("its list of repositories has more than %d bytes; ask for fewer at a time, by `n`", maxCatalog)
	}
	var page struct {
		Repositories []string `json:"repositories"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return errors.New("its list of repositories is none")
	}
	kept := []string{}
	for _, name := range page.Repositories {
		if IsRepository(name) && keep(name) {
			kept = append(kept, name)
		}
	}
	page.Repositories = kept
	return replace(r, page)
}

// IsAccount reports whether a path leads to what Harbor says about the account that asks.
func IsAccount(path string) bool {
	return strings.HasSuffix(strings.ToLower(path), "/users/current")
}

// RedactAccount takes out of what Harbor says about an account the secret by
// which that account signs in to the registry: it is the Connector's credential.
func RedactAccount(r *http.Response) error {
	if r.Body == nil || r.StatusCode/100 != 2 || r.Request != nil && r.Request.Method == http.MethodHead {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAccount+1))
	var account map[string]json.RawMessage
	if err == nil && len(body) <= maxAccount {
		err = json.Unmarshal(body, &account)
	}
	if err != nil || len(body) > maxAccount {
		return errors.New("what it says about the account is not what Berth knows how to show")
	}
	kept := map[string]json.RawMessage{}
	for _, name := range [...]string{"user_id", "username", "email", "realname", "comment", "sysadmin_flag", "admin_role_in_auth", "creation_time", "update_time"} {
		if value, ok := account[name]; ok {
			kept[name] = value
		}
	}
	return replace(r, kept)
}

// replace gives an answer another body.
func replace(r *http.Response, content any) error {
	body, err := json.Marshal(content)
	if err != nil {
		return err
	}
	_ = r.Body.Close()
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	for _, name := range [...]string{"Etag", "Last-Modified", "Content-Range", "Accept-Ranges", "Content-Encoding"} {
		r.Header.Del(name) // they are about the other one
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}
