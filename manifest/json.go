package manifest

import (
	"bytes"
	"encoding/json"
)

// JSON returns the documents of the stream as JSON objects, one after the
// other. Empty documents are left out. The error is an *InputError.
func (s *Stream) JSON() ([]byte, error) {
	var out bytes.Buffer
	for _, p := range s.parts {
		if p.document == nil || p.document.root == nil && !p.document.foreign {
			continue
		}
		content, err := p.document.decode()
		if err != nil {
			return nil, s.locate(err)
		}
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(content); err != nil {
			return nil, s.locate(p.document.fail(0, err))
		}
	}
	return out.Bytes(), nil
}
