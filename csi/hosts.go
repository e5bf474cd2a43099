package csi

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"strconv"

	"berth.dev/berth/route"
)

const (
	hostsFile = "hosts.toml"
	caFile    = "ca.crt"
	// mostErrors is how many hosts a report of failures names.
	mostErrors = 3
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

// authority is the content of a ca.crt. Readers of PEM pass over what stands before a block.
func (p Proxy) authority() file {
	return file{caFile, append([]byte(mark), p.CACert...)}
}

// hosts is a hosts.toml.
func (p Proxy) hosts() file {
	var b bytes.Buffer
	b.WriteString(mark)
	for i, address := range p.Addresses {
		url := "https://" + net.JoinHostPort(address.String(), strconv.FormatUint(uint64(p.Port), 10))
		if i == 0 {
			fmt.Fprintf(&b, "server = %q\n", url)
		}
		fmt.Fprintf(&b, "\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = %q\n", url, caFile)
	}
	return file{hostsFile, b.Bytes()}
}

// file is one of a host's folder.
type file struct {
	name    string
	content []byte
}

// HostsDir is a folder in which a container runtime looks for files about a
// registry, below the registry's name. Make it by NewHostsDir or
// NewCertificatesDir; not safe for concurrent use. It never follows a link out of
// that folder, and leaves alone what Berth did not write.
//
// A reader finds each file whole, old or new. Files are not forced to the disk,
// which would take a start as long as the disk is slow: what a power cut leaves
// empty is written anew.
type HostsDir struct {
	root          *os.Root
	path          string // of the node
	clusterDomain string
	names         []string           // of the files, in the order in which they are written
	files         func(Proxy) []file // of those names, in that order
	stands        map[string]digest  // by host
}

// digest tells contents of a host's files apart.
type digest [sha256.Size]byte

// NewHostsDir returns a `config_path` of containerd, with what Berth wrote there before.
func NewHostsDir(host *os.Root, dir, clusterDomain string) (*HostsDir, error) {
	// The certificate first: a hosts.toml without it could not be used.
	return newHostsDir(host, dir, clusterDomain, []string{caFile, hostsFile}, func(p Proxy) []file { return []file{p.authority(), p.hosts()} })
}

// NewCertificatesDir returns a `certs.d` of Docker or CRI-O, with what Berth wrote there before.
func NewCertificatesDir(host *os.Root, dir, clusterDomain string) (*HostsDir, error) {
	return newHostsDir(host, dir, clusterDomain, []string{caFile}, func(p Proxy) []file { return []file{p.authority()} })
}

func newHostsDir(host *os.Root, dir, clusterDomain string, names []string, files func(Proxy) []file) (*HostsDir, error) {
	root, err := openFolder(host, dir)
	if err != nil {
		return nil, fmt.Errorf("open the runtime's folder '%s': %w", dir, err)
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the runtime's folder '%s': %w", dir, err), root.Close())
	}
	d := &HostsDir{root: root, path: dir, clusterDomain: clusterDomain, names: names, files: files, stands: map[string]digest{}}
	for _, entry := range entries {
		if _, err := route.ParseHost(entry.Name(), clusterDomain); err != nil || !entry.IsDir() {
			continue
		}
		if stands, ours := d.read(entry.Name()); ours {
			d.stands[entry.Name()] = stands
		}
	}
	return d, nil
}

// Close closes the folder.
func (d *HostsDir) Close() error { return d.root.Close() }

// read returns what stands in a host's folder, and whether that is ours.
func (d *HostsDir) read(host string) (stands digest, ours bool) {
	files := make([]file, 0, len(d.names))
	for _, name := range d.names {
		content, err := readOwn(d.root, path.Join(host, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return stands, false
		}
		files = append(files, file{name, content})
	}
	return sum(files), len(files) > 0
}

func sum(files []file) (d digest) {
	h := sha256.New()
	for _, f := range files {
		_, _ = fmt.Fprintf(h, "%s %d\n%s", f.name, len(f.content), f.content) // a hash takes all
	}
	h.Sum(d[:0])
	return d
}

// Sync brings the folder to hold files for exactly these Connectors, and returns
// how many hosts it wrote and removed. Files that are as they should be are not
// touched; what somebody else wrote is left alone and is an error. It does what
// it can, and names the first errors. While the proxy is not known it does nothing.
func (d *HostsDir) Sync(connectors []route.Connector, proxy Proxy) (wrote, removed int, err error) {
	if !proxy.ready() {
		return 0, 0, nil
	}
	files := d.files(proxy)
	want := sum(files)
	hosts, err := hostsOf(connectors, d.clusterDomain)
	var failed failures
	failed.add(err)
	for host := range hosts {
		if stands, known := d.stands[host]; known && stands == want {
			continue
		}
		if err := d.write(host, files); err != nil {
			failed.add(err)
			continue
		}
		d.stands[host] = want
		wrote++
	}
	for host := range d.stands {
		if hosts[host] {
			continue
		}
		if err := d.remove(host); err != nil {
			failed.add(err)
		} else {
			removed++
		}
	}
	return wrote, removed, failed.join()
}

// hostsOf returns the hosts of Connectors. What could not be a Connector's name
// is not made into the name of a file, and is an error.
func hostsOf(connectors []route.Connector, clusterDomain string) (map[string]bool, error) {
	hosts := make(map[string]bool, len(connectors))
	var failed failures
	for _, c := range connectors {
		host := c.Host(clusterDomain)
		if parsed, err := route.ParseHost(host, clusterDomain); err != nil || parsed != c {
			failed.add(fmt.Errorf("'%s' cannot be the name of a Connector, and gets no files", c))
			continue
		}
		hosts[host] = true
	}
	return hosts, failed.join()
}

// failures are the first errors of many, and how many there were besides.
type failures struct {
	errs []error
	more int
}

func (f *failures) add(err error) {
	switch {
	case err == nil:
	case len(f.errs) < mostErrors:
		f.errs = append(f.errs, err)
	default:
		f.more++
	}
}

func (f *failures) join() error {
	if f.more > 0 {
		f.errs = append(f.errs, fmt.Errorf("and %d more", f.more))
	}
	return errors.Join(f.errs...)
}

// write brings one host's files to what they should be.
func (d *HostsDir) write(host string, files []file) error {
	if err := d.claim(host); err != nil {
		return err
	}
	for _, f := range files {
		if err := replace(d.root, path.Join(host, f.name), f.content); err != nil {
			return fmt.Errorf("write '%s' of '%s': %w", f.name, host, err)
		}
	}
	return nil
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
	if !entry.IsDir() {
		return &foreignError{path: path.Join(d.path, host)}
	}
	for _, name := range d.names {
		name = path.Join(host, name)
		if _, err := readOwn(d.root, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &foreignError{path: path.Join(d.path, name)}
		}
	}
	return nil
}

// remove takes away what Berth wrote for a host. Where somebody else has put
// files there, they stay, and are an error, once.
func (d *HostsDir) remove(host string) error {
	delete(d.stands, host)
	for i := range d.names {
		name := d.names[len(d.names)-1-i] // hosts.toml first: nobody shall read it without its certificate
		if err := removeOwn(d.root, path.Join(host, name)); err != nil {
			return fmt.Errorf("remove '%s' of '%s': %w", name, host, err)
		}
	}
	if err := d.root.Remove(host); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove '%s', whose Connector is gone; what somebody else put there is left alone, remove it: %w",
			path.Join(d.path, host), err)
	}
	return nil
}
