package csi

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"berth.dev/berth/route"
)

const (
	hostsFile = "hosts.toml"
	caFile    = "ca.crt"
	// mark is the first line of every hosts.toml of ours: what does not begin so is somebody else's.
	mark = "# Written by Berth. Changes are overwritten; it goes with its Connector.\n"

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
		url := "https://" + net.JoinHostPort(address.String(), fmt.Sprint(p.Port))
		if i == 0 {
			fmt.Fprintf(&b, "server = %q\n", url)
		}
		fmt.Fprintf(&b, "\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = %q\n", url, caFile)
	}
	return []byte(b.String())
}

// HostsDir is the `config_path` of a container runtime. Make it by NewHostsDir;
// not safe for concurrent use.
type HostsDir struct {
	path          string
	clusterDomain string
	written       map[string]files // by host
}

// files are what stands in a host's folder.
type files struct {
	hosts, ca []byte
}

// NewHostsDir returns the folder at the path, with what Berth wrote there before.
func NewHostsDir(path, clusterDomain string) (*HostsDir, error) {
	d := &HostsDir{path: path, clusterDomain: clusterDomain, written: map[string]files{}}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("read the runtime's `config_path`: %w", err)
	}
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

// read returns what stands in a host's folder, and whether Berth wrote it.
func (d *HostsDir) read(host string) (files, bool) {
	hosts, err := os.ReadFile(filepath.Join(d.path, host, hostsFile))
	if err != nil || !bytes.HasPrefix(hosts, []byte(mark)) {
		return files{}, false
	}
	ca, err := os.ReadFile(filepath.Join(d.path, host, caFile))
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
		errs = append(errs, d.remove(host))
		removed++
	}
	return wrote, removed, errors.Join(errs...)
}

// write brings one host's files to what they should be.
func (d *HostsDir) write(host string, want files) (changed bool, err error) {
	have, known := d.written[host]
	if known && bytes.Equal(have.hosts, want.hosts) && bytes.Equal(have.ca, want.ca) {
		return false, nil
	}
	dir := filepath.Join(d.path, host)
	if !known {
		if err := d.claim(dir); err != nil {
			return false, err
		}
	}
	// The certificate first: a hosts.toml without it could not be used.
	for _, file := range []struct {
		name    string
		content []byte
	}{{caFile, want.ca}, {hostsFile, want.hosts}} {
		if err := renameio.WriteFile(filepath.Join(dir, file.name), file.content, fileMode, renameio.WithTempDir(dir)); err != nil {
			return false, fmt.Errorf("write '%s' of '%s': %w", file.name, host, err)
		}
	}
	d.written[host] = want
	return true, nil
}

// claim makes a host's folder, or fails where somebody else's files or a link stand there.
func (d *HostsDir) claim(dir string) error {
	err := os.Mkdir(dir, dirMode)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	entry, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at '%s': %w", filepath.Base(dir), err)
	}
	hosts := filepath.Join(dir, hostsFile)
	if _, err := os.Lstat(hosts); !entry.IsDir() || !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("'%s' was not written by Berth and is left alone; remove it, so that pulls through the Connector work on this node", hosts)
	}
	return nil
}

func (d *HostsDir) remove(host string) error {
	dir := filepath.Join(d.path, host)
	for _, file := range []string{hostsFile, caFile} {
		if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove '%s' of '%s': %w", file, host, err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the folder of '%s', which holds files of somebody else: %w", host, err)
	}
	delete(d.written, host)
	return nil
}
