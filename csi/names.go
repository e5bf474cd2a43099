package csi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"berth.dev/berth/route"
)

const (
	// namesFile is where every resolver looks first.
	namesFile = "/etc/hosts"
	// ownLine ends each line of ours in it.
	ownLine = " # Written by Berth\n"
)

// ErrReplaced is what HostsFile returns for a file that is the node's no more:
// another one has its name, which only a new mount of it can reach.
var ErrReplaced = errors.New("'" + namesFile + "' of the node was replaced by another file, which the next start finds")

// HostsFile is a node's /etc/hosts. It is written in place, since it is mounted
// as a file: lines of others stay before ours, byte by byte.
type HostsFile struct {
	host *os.Root
	name string
}

// Sync brings the file to hold lines for exactly these hosts.
func (f *HostsFile) Sync(hosts map[string]bool, addresses []netip.Addr) error {
	file, err := open(f.host, within(f.name), os.O_RDWR)
	if err != nil {
		return fmt.Errorf("open '%s': %w", f.name, err)
	}
	defer func() { _ = file.Close() }() // what was written to it has been told of
	if replaced(file) {
		return ErrReplaced
	}
	old, err := readAll(file)
	if err != nil {
		return fmt.Errorf("read '%s': %w", f.name, err)
	}
	others, taken := othersLines(old, hosts)
	var failed failures
	for _, host := range slices.Sorted(maps.Keys(taken)) {
		failed.add(&foreignError{path: f.name + ": " + host})
	}
	if err := rewrite(file, old, append(others, ownLines(hosts, taken, addresses)...)); err != nil {
		failed.add(fmt.Errorf("write '%s': %w", f.name, err))
	}
	return failed.join()
}

// replaced reports whether a file has no name any more.
func replaced(file fs.File) bool {
	info, err := file.Stat()
	if err != nil {
		return true
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}

// ownLines are those of ours, in order.
func ownLines(hosts, taken map[string]bool, addresses []netip.Addr) []byte {
	var b bytes.Buffer
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		if taken[host] {
			continue
		}
		for _, address := range addresses {
			b.WriteString(address.String() + " " + host + ownLine)
		}
	}
	return b.Bytes()
}

// othersLines returns the lines that are not ours, and the hosts of ours that they name.
func othersLines(content []byte, hosts map[string]bool) (others []byte, taken map[string]bool) {
	taken = map[string]bool{}
	for line := range bytes.Lines(content) {
		if bytes.HasSuffix(line, []byte(ownLine)) {
			continue
		}
		others = append(others, line...)
		entry, _, _ := strings.Cut(string(line), "#")
		for name := range strings.FieldsSeq(entry) {
			if name = strings.ToLower(name); hosts[name] {
				taken[name] = true
			}
		}
	}
	if len(others) > 0 && others[len(others)-1] != '\n' {
		others = append(others, '\n')
	}
	return others, taken
}

// rewrite changes a file's content. What it grows by comes first: where the disk
// is full, that fails, and all is as it was.
func rewrite(file *os.File, old, now []byte) error {
	if bytes.Equal(old, now) {
		return nil
	}
	if len(now) > len(old) {
		if _, err := file.WriteAt(now[len(old):], int64(len(old))); err != nil {
			return errors.Join(err, file.Truncate(int64(len(old))))
		}
	}
	same := 0
	for same < min(len(old), len(now)) && old[same] == now[same] {
		same++
	}
	if _, err := file.WriteAt(now[same:], int64(same)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return file.Truncate(int64(len(now)))
}

// names keeps what runtimes need that know nothing of hosts.toml (CRI-O and
// Docker): the proxy's certificates, and the connectors' names in /etc/hosts. A
// runtime sends a Pod's pull secret to no other host than the image's name has,
// so that the name must stay, and be found.
type names struct {
	*HostsDir

	file   *HostsFile
	dropIn *DropIn // CRI-O alone
}

// Sync implements keeper. A name comes last: who finds it finds all.
func (n *names) Sync(connectors []route.Connector, proxy Proxy) (wrote, removed int, err error) {
	if !proxy.ready() {
		return 0, 0, nil
	}
	if proxy.Port != httpsPort {
		return 0, 0, errPort
	}
	hosts, _ := hostsOf(connectors, n.clusterDomain) // HostsDir says what is wrong with a name
	wrote, removed, err = n.HostsDir.Sync(connectors, proxy)
	if n.dropIn != nil {
		err = errors.Join(err, n.dropIn.Sync(hosts))
	}
	return wrote, removed, errors.Join(err, n.file.Sync(hosts, proxy.Addresses))
}

// Close implements keeper.
func (n *names) Close() error {
	if n.dropIn == nil {
		return n.HostsDir.Close()
	}
	return errors.Join(n.HostsDir.Close(), n.dropIn.root.Close())
}

// httpsPort is that of an image's name without a port.
const httpsPort = 443

// errPort: a name stands for an address, and not for a port.
var errPort = fmt.Errorf("the proxy's Service must have port %d for this runtime, which finds it by name", httpsPort)
