package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/proxy/upstream"
)

// maxCatalog is what one page of repositories may take: more than 10,000 of the longest names.
const maxCatalog = 4 << 20

// catalog is one page of the repositories of a registry.
type catalog struct {
	Repositories []string `json:"repositories"`
}

// filter leaves, in a page of the catalogue, the repositories that the caller
// may pull from. A page of which none is left still leads to the next.
func (x *exchange) filter(r *http.Response) error {
	if x.target.Kind != KindCatalog || r.StatusCode < http.StatusOK || r.StatusCode >= http.StatusMultipleChoices {
		return nil
	}
	page, err := readCatalog(r.Body)
	if err != nil {
		return &upstream.Error{Registry: x.connector.Registry, Reason: v1alpha1.ReasonUnexpectedAnswer, Detail: err.Error(), Status: r.StatusCode, Err: err}
	}
	kept := catalog{Repositories: []string{}}
	for _, name := range page.Repositories {
		if isRepository(name) && x.connector.Check(x.caller.Caller, name, v1alpha1.ActionPull) == nil {
			kept.Repositories = append(kept.Repositories, name)
		}
	}
	return replace(r, kept)
}

func readCatalog(from io.Reader) (catalog, error) {
	body, err := io.ReadAll(io.LimitReader(from, maxCatalog+1))
	switch {
	case err != nil:
		return catalog{}, errors.New("its list of repositories broke off")
	case len(body) > maxCatalog:
		return catalog{}, fmt.Errorf("its list of repositories has more than %d bytes; ask for fewer at a time, by `n`", maxCatalog)
	}
	var page catalog
	if err := json.Unmarshal(body, &page); err != nil {
		return catalog{}, errors.New("its list of repositories is none")
	}
	return page, nil
}
