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
	byRegistry lists
	byOrigin   lists
	classes    map[string]*Class
}

// lists are of Connectors, each sorted by namespace and name. Readers may hold
// a list, so one that changes is made anew.
type lists map[string][]*Connector

func (l lists) put(key string, c *Connector) {
	list := l[key]
	at, _ := slices.BinarySearchFunc(list, c.Connector, compare)
	l[key] = slices.Concat(list[:at], []*Connector{c}, list[at:])
}

// remove takes all of a name off a list: a Connector may have a host twice.
func (l lists) remove(key string, name route.Connector) {
	kept := slices.DeleteFunc(slices.Clone(l[key]), func(c *Connector) bool { return c.Connector == name })
	if len(kept) == 0 {
		delete(l, key)
		return
	}
	l[key] = kept
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
		c.byRegistry, c.byOrigin = lists{}, lists{}
	}
	c.byName[connector.Connector] = connector
	c.byRegistry.put(connector.Registry, connector)
	c.byOrigin.put(connector.Origin(), connector)
	for _, extended := range connector.extensions {
		c.byOrigin.put(extended.Origin(), extended)
	}
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
	c.byRegistry.remove(old.Registry, name)
	c.byOrigin.remove(old.Origin(), name)
	for _, extended := range old.extensions {
		c.byOrigin.remove(extended.Origin(), name)
	}
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

// ByOrigin returns the Connectors whose credential is for an origin, spelt as
// by Origin, sorted by namespace and name: those with that address, and, as
// Extensions returns them, those with a further host there. The slice may not be changed.
func (c *Catalogue) ByOrigin(origin string) []*Connector {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byOrigin[origin]
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
