// Package config renders the configuration files of the components from the
// templates in files/. What never varies from run to run stands in the
// templates or comes from package layout; what varies is in Values.
package config

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"berth.dev/berth/test/cluster/layout"
)

//go:embed files
var files embed.FS

// Values are what the templates draw on.
type Values struct {
	State      layout.State
	Runc       string // path of the program
	CNI        string // directory of the plugins
	HTTPSecret string // of the upstream: signs the state of uploads
}

// Names lists every file that Render knows.
func Names() ([]string, error) {
	entries, err := files.ReadDir("files")
	if err != nil {
		return nil, fmt.Errorf("listing the configuration files: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

// Render makes the content of one file.
func Render(name string, values Values) ([]byte, error) {
	source, err := files.ReadFile("files/" + name)
	if err != nil {
		return nil, fmt.Errorf("reading the template of %s: %w", name, err)
	}
	parsed, err := template.New(name).Option("missingkey=error").Funcs(constants()).Parse(string(source))
	if err != nil {
		return nil, fmt.Errorf("parsing the template of %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, values); err != nil {
		return nil, fmt.Errorf("rendering %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// Write renders every file into the state directory.
func Write(values Values) error {
	names, err := Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		content, err := Render(name, values)
		if err != nil {
			return err
		}
		path := values.State.Config(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("writing the configuration: %w", err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("writing the configuration: %w", err)
		}
	}
	return nil
}

// constants gives the templates the names and addresses of package layout.
func constants() template.FuncMap {
	value := func(s string) func() string { return func() string { return s } }
	return template.FuncMap{
		"clusterName": value(layout.ClusterName), "nodeName": value(layout.NodeName), "nodeIP": value(layout.NodeIP),
		"podCIDR": value(layout.PodCIDR), "clusterDomain": value(layout.ClusterDomain),
		"harborName": value(layout.HarborName), "harborIP": value(layout.HarborIP),
		"pauseImage": value(layout.PauseImage), "containerdSock": value(layout.ContainerdSock),
	}
}
