package access

import (
	"cmp"
	"slices"
	"sync"

	"berth.dev/berth/route"
)

// Catalogue holds the Connectors of a cluster by name and by registry, and their classes. It is
// fed from a watch and read on every admission and request, by any number of
// goroutines. The zero value is empty and ready.
type Catalogue struct {
	mu         sync.RWMutex
	byName     map[route.Connector]*Connector
	byRegistry map[string][]*Connector // each sorted by name
	classes    map[string]*Class
}

// PutClass adds a class, or replaces the one of the same name.
func (c *Catalogue) PutClass(class *Class) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.classes == nil {
		c.classes = map[string]*Class{}
	}
	c.classes[class.Name] = class
}

// DeleteClass removes the class of that name, if there is one.
func (c *Catalogue) DeleteClass(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.classes, name)
}

// Class returns the class of that name; one that does not exist opens nothing.
func (c *Catalogue) Class(name string) *Class {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if found, ok := c.classes[name]; ok {
		return found
	}
	return &Class{Name: name}
}

// Put adds a Connector, or replaces the one of the same name.
func (c *Catalogue) Put(connector *Connector) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(connector.Connector)
	if c.byName == nil {
		c.byName = map[route.Connector]*Connector{}
		c.byRegistry = map[string][]*Connector{}
	}
	c.byName[connector.Connector] = connector
	list := c.byRegistry[connector.Registry]
	at, _ := slices.BinarySearchFunc(list, connector.Connector, compare)
	// A fresh slice: readers may hold the old one.
	c.byRegistry[connector.Registry] = slices.Concat(list[:at], []*Connector{connector}, list[at:])
}

// Delete removes the Connector of that name, if there is one.
func (c *Catalogue) Delete(name route.Connector) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(name)
}

func (c *Catalogue) remove(name route.Connector) {
	old, ok := c.byName[name]
	if !ok {
		return
	}
	delete(c.byName, name)
	list := c.byRegistry[old.Registry]
	if len(list) == 1 {
		delete(c.byRegistry, old.Registry)
		return
	}
	at, _ := slices.BinarySearchFunc(list, name, compare)
	c.byRegistry[old.Registry] = slices.Concat(list[:at], list[at+1:])
}

// Get returns the Connector of that name.
func (c *Catalogue) Get(name route.Connector) (*Connector, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	found, ok := c.byName[name]
	return found, ok
}

// ByRegistry returns the Connectors of a registry, sorted by namespace and
// name. The registry is spelt as in image references: 'harbor.example.com',
// 'localhost:5000'. The slice may not be changed.
func (c *Catalogue) ByRegistry(registry string) []*Connector {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byRegistry[registry]
}

// Visible returns, in no order, the Connectors that grant the caller anything.
func (c *Catalogue) Visible(caller Caller) []*Connector {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var visible []*Connector
	for _, connector := range c.byName {
		if connector.Visible(caller) {
			visible = append(visible, connector)
		}
	}
	return visible
}

func compare(c *Connector, name route.Connector) int {
	return cmp.Or(cmp.Compare(c.Namespace, name.Namespace), cmp.Compare(c.Name, name.Name))
}
