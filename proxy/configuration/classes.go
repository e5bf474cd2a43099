package configuration

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"berth.dev/berth/api/v1alpha1"
)

// Classes holds the configurations of the cluster's ConnectorClasses, compiled.
// It is fed from a watch and read on every request. The zero value is empty and ready.
type Classes struct {
	mu     sync.RWMutex
	byName map[string]*class
}

// class is a ConnectorClass as far as files go.
type class struct {
	name           string
	configurations map[string]*set
}

// set is the files of a configuration, compiled.
type set struct {
	files []*file
	err   error // one of them is no good
	// digest tells sets apart whose templates read differently.
	digest [sha256.Size]byte
}

// Put adds a class, or replaces the one of the same name. The error says which
// of its templates are no good; the others can be used.
func (c *Classes) Put(added *v1alpha1.ConnectorClass) error {
	compiled := &class{name: added.Name, configurations: map[string]*set{}}
	var errs []error
	for i := range added.Spec.Configurations {
		configuration := &added.Spec.Configurations[i]
		s := newSet(configuration.Files)
		compiled.configurations[configuration.Name] = s
		if s.err != nil {
			errs = append(errs, templateError(added.Name, configuration.Name, s.err))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName == nil {
		c.byName = map[string]*class{}
	}
	c.byName[added.Name] = compiled
	return errors.Join(errs...)
}

// Delete removes the class of that name, if there is one.
func (c *Classes) Delete(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byName, name)
}

func (c *Classes) get(name string) (*class, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	found, ok := c.byName[name]
	return found, ok
}

func newSet(files []v1alpha1.ClassFile) *set {
	s := &set{}
	var all bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&all, "%q %q\n", f.Name, f.Template)
		compiled, err := compile(f.Name, f.Template)
		if err != nil {
			s.err = errors.Join(s.err, err)
			continue
		}
		s.files = append(s.files, compiled)
	}
	s.digest = sha256.Sum256(all.Bytes())
	return s
}

// offers are the names of the class's configurations.
func (c *class) offers() []string { return slices.Sorted(maps.Keys(c.configurations)) }

// templateError is what is said of a template that is no good, or fails.
func templateError(class, configuration string, err error) error {
	return fmt.Errorf("ConnectorClass '%s', configuration '%s', %w; the administrator must correct the template", class, configuration, err)
}
