package namespaces

import (
	"os"
	"os/exec"
	"testing"
)

func TestParseStat(t *testing.T) {
	const rest = " S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 223018 0 0"
	for name, test := range map[string]struct{ stat, state, start string }{
		"plain":               {"42 (cluster)" + rest, "S", "223018"},
		"brackets and spaces": {"42 (a) b (c) )" + rest, "S", "223018"},
		"short":               {"42 (cluster) S 1", "", ""},
		"no name":             {"42 cluster", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			state, start, err := parseStat(test.stat)
			if state != test.state || start != test.start || (err != nil) != (test.start == "") {
				t.Errorf("got '%s' '%s' %v", state, start, err)
			}
		})
	}
}

func TestKillSparesAnotherProcessWithThePID(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	us, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	former := us
	former.Start = "1"
	if former.Alive() {
		t.Error("a former process with this PID counts as alive")
	}
	if err := former.Kill(); err != nil {
		t.Error(err)
	}
	if !us.Alive() {
		t.Fatal("the process was ended in place of a former one")
	}
	if err := us.Kill(); err != nil {
		t.Error(err)
	}
	cmd.Wait() //nolint:errcheck // ended by SIGKILL
	if us.Alive() {
		t.Error("still alive after Kill")
	}
}

func TestMembers(t *testing.T) {
	set, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	members, seen, err := set.Members()
	if err != nil || len(members) == 0 || seen < len(members) {
		t.Errorf("members %v of %d, %v", members, seen, err)
	}
	if members, _, err := (Set{"net": "net:[1]"}).Members(); err != nil || len(members) > 0 {
		t.Errorf("members of no namespace: %v, %v", members, err)
	}
}
