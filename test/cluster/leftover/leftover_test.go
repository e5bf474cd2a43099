package leftover

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestCompare(t *testing.T) {
	before := Snapshot{
		Mounts: []string{"/ (ext4)", "/dev/shm (tmpfs)"}, Links: []string{"lo"},
		Sysctls: map[string]string{"kernel/panic": "0", "net/ipv4/conf/gone/forwarding": "1"},
	}
	for name, test := range map[string]struct {
		after Snapshot
		want  []string
	}{
		"nothing": {before, nil},
		"less":    {Snapshot{Mounts: []string{"/ (ext4)"}}, nil},
		"a mount twice": {
			Snapshot{Mounts: []string{"/ (ext4)", "/ (ext4)"}},
			[]string{"mount '/ (ext4)'"},
		},
		"one of each": {
			Snapshot{
				Links: []string{"lo", "veth1"}, Netns: []string{"harbor"}, Rules: []string{"\ttable ip kube-proxy"},
				Sysctls: map[string]string{"kernel/panic": "10", "net/ipv4/conf/veth1/forwarding": "1"},
			},
			[]string{
				"network interface 'veth1'", "network namespace 'harbor'", "nftables rule 'table ip kube-proxy'",
				"sysctl 'kernel/panic' is '10' and was '0'",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Compare(before, test.after); !slices.Equal(got, test.want) {
				t.Errorf("\ngot  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestParseMounts(t *testing.T) {
	const mountinfo = `30 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 30 0:5 / /dev rw shared:1 - devtmpfs devtmpfs rw
`
	want := []string{"/ (ext4 of /dev/vda/)", "/dev (devtmpfs of devtmpfs/)"}
	if got := parseMounts(mountinfo); !slices.Equal(got, want) {
		t.Errorf("\ngot  %q\nwant %q", got, want)
	}
}

func TestReadSysctls(t *testing.T) {
	root := t.TempDir()
	for name, value := range map[string]string{"kernel/panic": "0\n", "kernel/random/uuid": "x", "fs/file-nr": "9", "debug/x": "1"} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readSysctls(root)
	if err != nil || len(got) != 1 || got["kernel/panic"] != "0" {
		t.Errorf("got %v, %v", got, err)
	}
}
