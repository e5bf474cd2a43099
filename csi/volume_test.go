package csi

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write opens a volume and writes it, as one call of kubelet does.
func write(t testing.TB, target, generation string, files map[string]string) error {
	t.Helper()
	v, err := openVolume(target, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	content := map[string][]byte{}
	for name, text := range files {
		content[name] = []byte(text)
	}
	return v.write(generation, content)
}

// visible is what a container finds.
func visible(t testing.TB, target string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(target)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), hidden) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(target, entry.Name()))
		if err != nil {
			content = []byte("(dangling)")
		}
		files[entry.Name()] = string(content)
	}
	return files
}

func hiddenNames(t testing.TB, target string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(target)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), hidden) {
			names = append(names, entry.Name())
		}
	}
	return names
}

// TestWrite: files come, change and go; one generation stays behind, and no more.
func TestWrite(t *testing.T) {
	t.Parallel()
	target := t.TempDir()
	steps := []struct {
		generation string
		files      map[string]string
		hidden     []string
	}{
		{"a", map[string]string{"one": "1", ".env": "x"}, []string{"..data", "..generation-a"}},
		{"b", map[string]string{"one": "2", "two": "2"}, []string{"..data", "..generation-a", "..generation-b"}},
		{"b", map[string]string{"one": "2", "two": "2"}, []string{"..data", "..generation-b"}},
		{"c", map[string]string{"two": "3"}, []string{"..data", "..generation-b", "..generation-c"}},
		{"a", map[string]string{"one": "1"}, []string{"..data", "..generation-a", "..generation-c"}},
	}
	for i, step := range steps {
		if err := write(t, target, step.generation, step.files); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.files, visible(t, target)); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(step.hidden, hiddenNames(t, target)); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}

// TestUnchangedFiles: what is the same in the next generation takes no memory again.
func TestUnchangedFiles(t *testing.T) {
	t.Parallel()
	target := t.TempDir()
	inode := func(name string) uint64 {
		info, err := os.Stat(filepath.Join(target, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Ino
	}
	_ = write(t, target, "a", map[string]string{"bundle": "same", "token": "1"})
	bundle, token := inode("bundle"), inode("token")
	_ = write(t, target, "b", map[string]string{"bundle": "same", "token": "2"})
	if inode("bundle") != bundle || inode("token") == token {
		t.Error("the file that is the same must be the same inode, and the other a new one")
	}
}

// TestModes: readable for the container's user, whoever it is, or for the volume's group alone; writable for nobody.
func TestModes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		group        int
		file, folder fs.FileMode
	}{
		"everybody": {-1, 0o444, 0o755},
		"group":     {os.Getgid(), 0o440, 0o750},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := t.TempDir()
			v, err := openVolume(target, tc.group)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = v.Close() }()
			if err := v.write("a", map[string][]byte{"x": []byte("1")}); err != nil {
				t.Fatal(err)
			}
			for path, want := range map[string]fs.FileMode{"x": tc.file, "..data/": tc.folder, ".": tc.folder} {
				if info, err := os.Stat(target + "/" + path); err != nil || info.Mode().Perm() != want {
					t.Errorf("'%s' has %v, %v, want %v", path, info.Mode(), err, want)
				}
			}
		})
	}
}

// TestCrash: whatever a process that ended in the midst has left, the next one gets through and clears it away.
func TestCrash(t *testing.T) {
	t.Parallel()
	for name, left := range map[string]func(t *testing.T, target string){
		"half a generation": func(t *testing.T, target string) {
			put(t, filepath.Join(target, "..generation-b", "half"), "x")
		},
		"a link beside": func(t *testing.T, target string) {
			if err := os.Symlink("nowhere", filepath.Join(target, "....data.new")); err != nil {
				t.Fatal(err)
			}
		},
		"links to what is not there yet": func(t *testing.T, target string) {
			if err := os.Symlink("..data/two", filepath.Join(target, "two")); err != nil {
				t.Fatal(err)
			}
		},
		"generations": func(t *testing.T, target string) {
			put(t, filepath.Join(target, "..generation-old", "one"), "x")
			put(t, filepath.Join(target, "..generation-older", "one"), "x")
		},
		"a file where a link belongs": func(t *testing.T, target string) { put(t, filepath.Join(target, "two"), "x") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := t.TempDir()
			_ = write(t, target, "a", map[string]string{"one": "1"})
			left(t, target)
			want := map[string]string{"one": "1", "two": "2"}
			if err := write(t, target, "b", want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, visible(t, target)); diff != "" {
				t.Errorf("the files (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"..data", "..generation-a", "..generation-b"}, hiddenNames(t, target)); diff != "" {
				t.Errorf("what is hidden (-want +got):\n%s", diff)
			}
		})
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestHostileNames: the proxy is not believed where a name would lead elsewhere.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", ".", "..", "..data", "..x", "a/b", "/etc/passwd", `a\b`, "a\x00b"} {
		target := t.TempDir()
		_ = write(t, target, "a", map[string]string{"one": "1"})
		if err := write(t, target, "b", map[string]string{name: "x", "one": "2"}); err == nil {
			t.Errorf("a file %q is written", name)
		}
		if err := write(t, target, name, map[string]string{"one": "2"}); err == nil {
			t.Errorf("a generation %q is written", name)
		}
		if diff := cmp.Diff(map[string]string{"one": "1"}, visible(t, target)); diff != "" {
			t.Errorf("the last good files (-want +got):\n%s", diff)
		}
	}
}

// TestFailureKeeps: where a generation cannot be written, the one before stays, and nothing of the new.
func TestFailureKeeps(t *testing.T) {
	t.Parallel()
	target := t.TempDir()
	_ = write(t, target, "a", map[string]string{"one": "1"})
	if err := write(t, target, "b", map[string]string{"one": "2", strings.Repeat("x", 300): "too long a name"}); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Fatalf("error: %v", err)
	}
	if diff := cmp.Diff(map[string]string{"one": "1"}, visible(t, target)); diff != "" {
		t.Errorf("the files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"..data", "..generation-a"}, hiddenNames(t, target)); diff != "" {
		t.Errorf("what is hidden (-want +got):\n%s", diff)
	}
}

// TestNeverTorn: readers who read all the time, while the files change, find each file whole, and each that always is.
// No more than one change falls into the opening of one file: kubelet's come a minute apart.
func TestNeverTorn(t *testing.T) {
	t.Parallel()
	target := t.TempDir()
	content := func(n int) map[string]string {
		files := map[string]string{"bundle": "same"}
		for _, name := range []string{"token", "config.json", ".env"} {
			files[name] = strings.Repeat(strconv.Itoa(n%10), 20_000)
		}
		return files
	}
	if err := write(t, target, "0", content(0)); err != nil {
		t.Fatal(err)
	}
	var reads [4]atomic.Int64
	stop, stopped := make(chan struct{}), make(chan error, len(reads))
	for i := range reads {
		go func() {
			names := slices.Collect(maps.Keys(content(0)))
			if i%2 == 0 { // who only looks finds the shortest of gaps
				stopped <- look(stop, filepath.Join(target, "token"), &reads[i])
				return
			}
			for {
				select {
				case <-stop:
					stopped <- nil
					return
				default:
				}
				for _, name := range names {
					have, err := os.ReadFile(filepath.Join(target, name))
					if err == nil && name != "bundle" && (len(have) != 20_000 || strings.Trim(string(have), string(have[0])) != "") {
						err = errors.New("'" + name + "' is torn")
					}
					if err != nil {
						stopped <- err
						return
					}
					reads[i].Add(1)
				}
			}
		}()
	}
	for n := 1; (n <= 50 || reads[1].Load()+reads[3].Load() < 200) && len(stopped) == 0; n++ {
		if err := write(t, target, strconv.Itoa(n), content(n)); err != nil {
			t.Fatal(err)
		}
		for i := range reads {
			for before := reads[i].Load(); reads[i].Load() == before && len(stopped) == 0; {
				runtime.Gosched()
			}
		}
	}
	close(stop)
	for range cap(stopped) {
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
}

// look looks whether a file is there until it is told to stop, and counts how often it has.
func look(stop <-chan struct{}, path string, looks *atomic.Int64) error {
	for {
		select {
		case <-stop:
			return nil
		default:
			if _, err := os.Stat(path); err != nil {
				return err
			}
			looks.Add(1)
		}
	}
}
