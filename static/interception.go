package static

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/access"
	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/certs"
	"berth.dev/berth/route"
)

const (
	// renewal is how often authorities are looked at even where nothing changed, and retry after what failed.
	renewal = 24 * time.Hour
	retry   = time.Minute
)

// Interception keeps the certificate authorities that sign for the hosts of a
// directory's Connectors in a folder of their own, as the controller keeps them
// in a cluster:
//
//	ca.crt                what clients are to trust: the roots of all
//	NAMESPACE.NAME.json   the Secret with the authority of a Connector, and its key
//
// An authority that is not there is made. What clients are to trust is written
// before anything is signed with it. Make it by OpenInterception.
type Interception struct {
	folder string
	now    func() time.Time
	user   AuthorityUser
	held   map[route.Connector]authority
	bundle []byte
}

// authority is a Connector's, which its UID tells from a namesake.
type authority struct {
	uid types.UID
	all certs.Authorities
}

// AuthorityUser is told of each authority, and signs with it. *forward.Authorities is one.
type AuthorityUser interface {
	// Use replaces the authority of a Connector.
	Use(name route.Connector, uid types.UID, all certs.Authorities)
	// Forget drops that of a Connector that is gone.
	Forget(name route.Connector)
}

// OpenInterception makes the folder where it is not there, and the authorities of the state's Connectors in it.
func OpenInterception(folder string, state *State, user AuthorityUser, now func() time.Time) (*Interception, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // clients read the certificates in it
		return nil, fmt.Errorf("make the folder of certificate authorities: %w", err)
	}
	i := &Interception{folder: folder, now: now, user: user, held: map[route.Connector]authority{}}
	_, err := i.step(state)
	return i, err
}

// Start follows a directory until the context ends, and renews what grows old.
func (i *Interception) Start(ctx context.Context, d *Directory) error {
	ticks := time.NewTicker(lookAgain)
	defer ticks.Stop()
	var seen *State
	var again time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		state := d.State()
		if state == seen && i.now().Before(again) {
			continue
		}
		next, err := i.step(state)
		if err != nil {
			d.log.Error("go on with the certificate authorities from before", slog.String("directory", i.folder), slog.String("error", err.Error()))
			next = i.now().Add(retry)
		}
		seen, again = state, next
	}
}

// step makes the authorities those of the state's Connectors now, and returns when to look at them again.
func (i *Interception) step(state *State) (again time.Time, err error) {
	var bundle []byte
	next, changed := map[route.Connector]authority{}, map[route.Connector]bool{}
	again = i.now().Add(renewal)
	for _, name := range sortedNames(state.Connectors) {
		var scope certs.Scope
		if scope.Domains, scope.Addresses = state.Connectors[name].Hosts(); len(scope.Domains)+len(scope.Addresses) == 0 {
			continue
		}
		all, anew, when, err := i.authorities(name, scope)
		if err != nil {
			return again, err
		}
		next[name] = authority{state.Connectors[name].UID, all}
		changed[name] = anew || i.held[name].uid != next[name].uid
		bundle = append(bundle, all.Bundle()...)
		if when.Before(again) {
			again = when
		}
	}
	if i.bundle == nil || !bytes.Equal(bundle, i.bundle) {
		if err := i.write(v1alpha1.FileCA, bundle, 0o644); err != nil {
			return again, err
		}
		i.bundle = bundle
	}
	for name, a := range next {
		if changed[name] {
			i.user.Use(name, a.uid, a.all)
		}
	}
	err = i.drop(next)
	i.held = next
	return again, err
}

func sortedNames(connectors map[route.Connector]*access.Connector) []route.Connector {
	names := make([]route.Connector, 0, len(connectors))
	for name := range connectors {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b route.Connector) int { return strings.Compare(a.String(), b.String()) })
	return names
}

// authorities returns those of a Connector as they are to be now, which are in its file then, and whether they were others before.
func (i *Interception) authorities(name route.Connector, scope certs.Scope) (now certs.Authorities, changed bool, again time.Time, err error) {
	held, known := i.held[name]
	if !known {
		if held.all, err = i.read(name); err != nil {
			return nil, false, again, err
		}
	}
	now, changed, again, err = held.all.Step(name.String(), scope, i.now())
	if err != nil || !changed {
		return now, !known, again, err
	}
	return now, true, again, i.store(name, now)
}

// store writes the file of a Connector.
func (i *Interception) store(name route.Connector, all certs.Authorities) error {
	content, err := all.Marshal()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.InterceptionNamespace, Name: secretName(name)},
		Data:       content,
	})
	if err != nil {
		return fmt.Errorf("encode the certificate authority of Connector '%s': %w", name, err)
	}
	return i.write(fileName(name), raw, 0o600)
}

// drop removes the files of Connectors that are gone, or need none any more.
func (i *Interception) drop(now map[route.Connector]authority) error {
	var errs []error
	for name := range i.held {
		if _, still := now[name]; still {
			continue
		}
		i.user.Forget(name)
		if err := os.Remove(filepath.Join(i.folder, fileName(name))); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// secretName is the Secret's of a Connector's authority; neither part has a dot.
func secretName(c route.Connector) string { return c.Namespace + "." + c.Name }

func fileName(c route.Connector) string { return secretName(c) + ".json" }

// read returns the authorities of a Connector's file; none where there is no file.
func (i *Interception) read(name route.Connector) (certs.Authorities, error) {
	path := filepath.Join(i.folder, fileName(name))
	raw, err := os.ReadFile(path) //nolint:gosec // the administrator names the folder, and a Connector's name has no slash
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the certificate authority of Connector '%s': %w", name, err)
	}
	var s corev1.Secret
	if json.Unmarshal(raw, &s) != nil || s.Name != secretName(name) { // its error might quote the key
		return nil, fmt.Errorf("'%s' is not the Secret with the certificate authority of Connector '%s'; delete it, and a new one is made", path, name)
	}
	authorities, err := certs.ParseAuthorities(s.Data)
	if err != nil {
		return nil, fmt.Errorf("'%s': %w; delete it, and a new one is made", path, err)
	}
	return authorities, nil
}

// write replaces a file, so that readers find the one or the other, whole.
func (i *Interception) write(name string, content []byte, mode fs.FileMode) error {
	unfinished, err := os.CreateTemp(i.folder, "."+name+".*")
	if err != nil {
		return fmt.Errorf("write '%s': %w", name, err)
	}
	_, err = unfinished.Write(content)
	err = errors.Join(err, unfinished.Chmod(mode), unfinished.Close())
	if err == nil {
		err = os.Rename(unfinished.Name(), filepath.Join(i.folder, name))
	}
	if err != nil {
		_ = os.Remove(unfinished.Name()) // the error that counts is the first
		return fmt.Errorf("write '%s': %w", name, err)
	}
	return nil
}
