package build

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestHashFollowsEveryInput(t *testing.T) {
	root := t.TempDir()
	write(t, root, "mod/main.go", "package main")
	base := Component{Name: "x", Dir: "mod", Packages: []string{"."}, Tags: "a", LDFlags: "-X b=c"}
	hash := func(c Component, goVersion string) string {
		t.Helper()
		sum, err := Hash(c, root, goVersion)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	first := hash(base, "go1.26.0")
	if again := hash(base, "go1.26.0"); again != first {
		t.Error("equal inputs, another hash")
	}
	for name, change := range map[string]func(*Component){
		"packages": func(c *Component) { c.Packages = []string{"./other"} },
		"tags":     func(c *Component) { c.Tags = "b" },
		"flags":    func(c *Component) { c.LDFlags = "" },
		"cgo":      func(c *Component) { c.CGO = true },
		"links":    func(c *Component) { c.Links = []string{"y"} },
	} {
		changed := base
		change(&changed)
		if hash(changed, "go1.26.0") == first {
			t.Errorf("other %s, same hash", name)
		}
	}
	if hash(base, "go1.26.1") == first {
		t.Error("other Go release, same hash")
	}
	write(t, root, "mod/go.sum", "x")
	if hash(base, "go1.26.0") == first {
		t.Error("one more source file, same hash")
	}
}

func TestKubernetesVersionIsThatOfTheModule(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "kube", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "k8s.io/kubernetes " + kubernetesVersion + "\n"; !strings.Contains(string(content), want) {
		t.Errorf("kube/go.mod does not require '%s'", strings.TrimSpace(want))
	}
}

func TestProgressLines(t *testing.T) {
	now, begun := time.Unix(1000, 0), make(chan struct{})
	ticks := make(chan time.Time)
	var out bytes.Buffer
	progress := &Progress{out: &out, now: func() time.Time { return now }, pause: func(time.Duration) <-chan time.Time {
		select {
		case <-begun:
		default:
			close(begun)
		}
		return ticks
	}}
	step := Step{Number: 3, Of: 9, Component: Component{Name: "kubernetes", Holds: "etcd to kubectl", Takes: 5 * time.Minute}}
	done := progress.Building(step)
	<-begun
	now = now.Add(130 * time.Second)
	ticks <- now
	done(nil)
	want := `[3/9] kubernetes (etcd to kubectl): building (about 5m on two cores), 6 left
[3/9] kubernetes (etcd to kubectl): building, 2m10s so far (about 5m on two cores), 6 left
[3/9] kubernetes: built in 2m10s
`
	if out.String() != want {
		t.Errorf("\ngot\n%s\nwant\n%s", out.String(), want)
	}
}

func write(t *testing.T, root, name, content string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
