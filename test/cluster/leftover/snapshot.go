// Package leftover proves that the cluster leaves nothing behind: it writes
// down what the machine looks like before, and compares after.
package leftover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Snapshot is what the machine looks like at one moment.
type Snapshot struct {
	Mounts  []string          `json:"mounts"`  // mount point, kind and source
	Links   []string          `json:"links"`   // network interfaces
	Netns   []string          `json:"netns"`   // names in /run/netns
	Rules   []string          `json:"rules"`   // nftables, line by line
	Sysctls map[string]string `json:"sysctls"` // value by path below /proc/sys
}

// Take looks at the machine.
func Take(ctx context.Context) (Snapshot, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Snapshot{}, fmt.Errorf("looking at the mounts: %w", err)
	}
	links, err := names("/sys/class/net")
	if err != nil {
		return Snapshot{}, fmt.Errorf("looking at the network interfaces: %w", err)
	}
	netns, err := names("/run/netns")
	if err != nil {
		return Snapshot{}, fmt.Errorf("looking at the named network namespaces: %w", err)
	}
	rules, err := exec.CommandContext(ctx, "nft", "--stateless", "list", "ruleset").Output()
	if err != nil {
		return Snapshot{}, fmt.Errorf("looking at the nftables rules with nft (`cluster build` installs it): %w", err)
	}
	sysctls, err := readSysctls("/proc/sys")
	if err != nil {
		return Snapshot{}, fmt.Errorf("looking at the sysctls: %w", err)
	}
	return Snapshot{Mounts: parseMounts(string(mounts)), Links: links, Netns: netns, Rules: lines(string(rules)), Sysctls: sysctls}, nil
}

// Save keeps the snapshot in a file.
func (s Snapshot) Save(path string) error {
	content, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding what the machine looks like: %w", err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("keeping what the machine looks like: %w", err)
	}
	return nil
}

// Load reads a snapshot that Save wrote.
func Load(path string) (Snapshot, error) {
	var s Snapshot
	content, err := os.ReadFile(path)
	if err != nil {
		return s, fmt.Errorf("reading what the machine looked like before: %w", err)
	}
	if err := json.Unmarshal(content, &s); err != nil {
		return s, fmt.Errorf("reading what the machine looked like before: '%s': %w", path, err)
	}
	return s, nil
}

// parseMounts takes the parts of /proc/self/mountinfo that say what is mounted
// where; the numbers of mounts and devices vary.
func parseMounts(mountinfo string) []string {
	var mounts []string
	for _, line := range lines(mountinfo) {
		mount, source, _ := strings.Cut(line, " - ")
		fields, kind := strings.Fields(mount), strings.Fields(source)
		if len(fields) >= 5 && len(kind) >= 2 {
			mounts = append(mounts, fields[4]+" ("+kind[0]+" of "+kind[1]+fields[3]+")")
		}
	}
	slices.Sort(mounts)
	return mounts
}

// names lists a directory; one that is missing is empty.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	found := make([]string, 0, len(entries))
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	return found, nil
}

func lines(s string) []string {
	return slices.DeleteFunc(strings.Split(s, "\n"), func(line string) bool { return strings.TrimSpace(line) == "" })
}

// readSysctls reads the settings of the kernel, memory, network and file
// systems. What cannot be read (write-only, or not for us) is not compared.
func readSysctls(root string) (map[string]string, error) {
	values := map[string]string{}
	for _, dir := range []string{"kernel", "vm", "net", "fs", "user"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil //nolint:nilerr // interfaces come and go while we look
			}
			name, _ := strings.CutPrefix(path, root+"/")
			if content, err := os.ReadFile(path); err == nil && !changesByItself(name) {
				values[name] = strings.TrimSpace(string(content))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return values, nil
}

// changesByItself says which entries below /proc/sys are no settings but
// counters and other things that change on any machine.
func changesByItself(name string) bool {
	if strings.HasPrefix(name, "kernel/random/") || strings.HasPrefix(name, "fs/binfmt_misc/") {
		return true
	}
	switch name {
	case "kernel/ns_last_pid", "kernel/pty/nr", "fs/file-nr", "fs/inode-nr", "fs/inode-state", "fs/dentry-state",
		"fs/aio-nr", "fs/quota/syncs", "net/netfilter/nf_conntrack_count", "vm/stat_refresh", "kernel/perf_event_max_sample_rate",
		"net/ipv4/tcp_fastopen_key", "kernel/tainted":
		return true
	}
	return strings.HasPrefix(name, "fs/quota/")
}
