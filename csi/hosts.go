package csi

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"

	"berth.dev/berth/route"
)

const (
	hostsFile = "hosts.toml"
	caFile    = "ca.crt"
	// mark is the first line of every hosts.toml of ours: what does not begin so is somebody else's.
	mark = "# Written by Berth. Changes are overwritten; it goes with its Connector.\n"

	// fresh, after a file's name, is where it is written before it takes its place.
	fresh = ".new"

	dirMode  = 0o755
	fileMode = 0o644
)

// Proxy is how the node's container runtime reaches Berth's proxy.
type Proxy struct {
	// Addresses are those of its Service.
	Addresses []netip.Addr
	// Port of its Service.
	Port uint16
	// CACert holds the PEM certificates that verify it.
	CACert []byte
}

// ready reports whether enough is known to write files.
func (p Proxy) ready() bool { return len(p.Addresses) > 0 && p.Port > 0 && len(p.CACert) > 0 }

// hosts is the content of a hosts.toml.
func (p Proxy) hosts() []byte {
	var b strings.Builder
	b.WriteString(mark)
	for i, address := range p.Addresses {
		url := "https://" + net.JoinHostPort(address.String(), strconv.FormatUint(uint64(p.Port), 10))
		if i == 0 {
			fmt.Fprintf(&b, "server = %q\n", url)
		}
		fmt.Fprintf(&b, "\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = %q\n", url, caFile)
	}
	return []byte(b.String())
}

// HostsDir is the `config_path` of a container runtime. Make it by NewHostsDir;
// not safe for concurrent use. It never follows a link out of that folder.
//
// A reader finds each file whole, old or new. Files are not forced to the disk,
// which would take a start as long as the disk is slow: what a power cut leaves
// empty is written anew at the next start.
type HostsDir struct {
	root          *os.Root
	clusterDomain string
	written       map[string]files // by host
}

// files are what stands in a host's folder.
type files struct {
	hosts, ca []byte
}

// NewHostsDir returns the folder of that name, with what Berth wrote there before.
func NewHostsDir(name, clusterDomain string) (*HostsDir, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("open the runtime's `config_path`: %w", err)
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the runtime's `config_path`: %w", err), root.Close())
	}
	d := &HostsDir{root: root, clusterDomain: clusterDomain, written: map[string]files{}}
	for _, entry := range entries {
		if _, err := route.ParseHost(entry.Name(), clusterDomain); err != nil || !entry.IsDir() {
			continue
		}
		if w, ours := d.read(entry.Name()); ours {
			d.written[entry.Name()] = w
		}
	}
	return d, nil
}

// read returns what stands in a host's folder, and whether Berth wrote it: an
// empty hosts.toml is no use to anybody, and is what a power cut leaves of ours.
func (d *HostsDir) read(host string) (files, bool) {
	hosts, err := d.root.ReadFile(path.Join(host, hostsFile))
	if err != nil || len(hosts) > 0 && !bytes.HasPrefix(hosts, []byte(mark)) {
		return files{}, false
	}
	ca, err := d.root.ReadFile(path.Join(host, caFile))
	if err != nil {
		ca = nil // written anew
	}
	return files{hosts: hosts, ca: ca}, true
}

// Sync brings the folder to hold files for exactly these Connectors, and returns
// how many hosts it wrote and removed. Files that are as they should be are not
// touched; what somebody else wrote is left alone and is an error. It does what
// it can and returns all errors. While the proxy is not known it does nothing.
func (d *HostsDir) Sync(connectors []route.Connector, proxy Proxy) (wrote, removed int, err error) {
	if !proxy.ready() {
		return 0, 0, nil
	}
	want := files{hosts: proxy.hosts(), ca: proxy.CACert}
	wanted := make(map[string]bool, len(connectors))
	var errs []error
	for _, c := range connectors {
		host := c.Host(d.clusterDomain)
		wanted[host] = true
		changed, err := d.write(host, want)
		errs = append(errs, err)
		if changed {
			wrote++
		}
	}
	for host := range d.written {
		if wanted[host] {
			continue
		}
		if err := d.remove(host); err != nil {
			errs = append(errs, err)
		} else {
			removed++
		}
	}
	return wrote, removed, errors.Join(errs...)
}

// write brings one host's files to what they should be.
func (d *HostsDir) write(host string, want files) (changed bool, err error) {
	have, known := d.written[host]
	if known && bytes.Equal(have.hosts, want.hosts) && bytes.Equal(have.ca, want.ca) {
		return false, nil
	}
	if !known {
		if err := d.claim(host); err != nil {
			return false, err
		}
	}
	// The certificate first: a hosts.toml without it could not be used.
	for _, file := range []struct {
		name    string
		content []byte
	}{{caFile, want.ca}, {hostsFile, want.hosts}} {
		if err := d.replace(path.Join(host, file.name), file.content); err != nil {
			return false, fmt.Errorf("write '%s' of '%s': %w", file.name, host, err)
		}
	}
	d.written[host] = want
	return true, nil
}

func (d *HostsDir) replace(name string, content []byte) error {
	if err := d.root.WriteFile(name+fresh, content, fileMode); err != nil {
		return err
	}
	return d.root.Rename(name+fresh, name)
}

// claim makes a host's folder, or fails where somebody else's files or a link stand there.
func (d *HostsDir) claim(host string) error {
	err := d.root.Mkdir(host, dirMode)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	entry, err := d.root.Lstat(host)
	if err != nil {
		return fmt.Errorf("look at '%s': %w", host, err)
	}
	foreign := path.Join(host, hostsFile)
	if !entry.IsDir() {
		foreign = host
	} else if _, err := d.root.Lstat(foreign); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("'%s' was not written by Berth and is left alone; remove it, so that pulls through the Connector work on this node",
		path.Join(d.root.Name(), foreign))
}

// remove takes away what Berth wrote for a host. Where somebody else has put
// files beside, they stay, and are an error, once.
func (d *HostsDir) remove(host string) error {
	for _, file := range []string{hostsFile, caFile, hostsFile + fresh, caFile + fresh} {
		if err := d.root.Remove(path.Join(host, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove '%s' of '%s': %w", file, host, err)
		}
	}
	delete(d.written, host)
	if err := d.root.Remove(host); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove '%s', whose Connector is gone; what somebody else put there is left alone, remove it: %w",
			path.Join(d.root.Name(), host), err)
	}
	return nil
}
