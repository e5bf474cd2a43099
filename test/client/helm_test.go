package client_test

import (
	"bytes"
	"os"
	"strings"
)

// helm has charts and not images. Charts that it is to find were put there by
// helm, past Berth.
func helm() client {
	none := "it copies and deletes nothing in registries"
	return client{
		name: "helm", authority: "`--ca-file`",
		prepare: func(s *scene) { s.helmLogin(s.host, "any", s.token) },
		cells:   map[operation]func(*scene){pull: helmPull, push: helmPush, list: helmList},
		cannot:  map[operation]string{copies: none, remove: none},
	}
}

func helmPull(s *scene) {
	file := s.helmSeed("pull", "0.1.0")
	want, err := os.ReadFile(file)
	s.OK(err)
	s.OK(os.Remove(file))
	s.helm("", "pull", "oci://"+s.through("pull/chart"), "--version", "0.1.0")
	got, err := os.ReadFile(file)
	s.OK(err)
	if !bytes.Equal(got, want) {
		s.Error("it pulled another chart")
	}
}

func helmPush(s *scene) {
	file := s.chart("0.2.0")
	_, printed, _ := strings.Cut(s.helm("", "push", file, "oci://"+s.through("push")), "Digest: ")
	digest, _, _ := strings.Cut(printed, "\n")
	if digest == "" {
		s.Fatal("it says no digest")
	}
	s.has("push/chart:0.2.0", digest)
}

// helmList lists tags to find the newest version of a range.
func helmList(s *scene) {
	s.helmSeed("list", "0.3.0")
	s.helmSeed("list", "0.3.7")
	s.helmSeed("list", "0.4.0")
	shown := s.helm("", "show", "chart", "oci://"+s.through("list/chart"), "--version", "~0.3.0")
	if !strings.Contains(shown, "version: 0.3.7\n") {
		s.Errorf("it found no chart of version 0.3.7 but:\n%s", shown)
	}
}

// helm runs helm, and returns what it prints, on whichever output.
func (s *scene) helm(stdin string, args ...string) string {
	s.Helper()
	program := s.Program(envClients, "helm", byMake)
	return s.command(stdin, program, append(args, "--ca-file", s.Authority.File, "--registry-config", s.file("registry.json"))...)
}

func (s *scene) helmLogin(host, user, password string) {
	s.Helper()
	s.helm(password, "registry", "login", host, "--username", user, "--password-stdin")
}

// chart makes a chart, and returns its file.
func (s *scene) chart(version string) (file string) {
	s.Helper()
	s.OK(os.MkdirAll(s.file("chart"), 0o755))
	s.OK(os.WriteFile(s.file("chart/Chart.yaml"), []byte("apiVersion: v2\nname: chart\nversion: "+version+"\n"), 0o600))
	s.command("", s.Program(envClients, "helm", byMake), "package", "chart")
	return s.file("chart-" + version + ".tgz")
}

// helmSeed puts a chart into the registry, past Berth.
func (s *scene) helmSeed(repository, version string) (file string) {
	s.Helper()
	host := strings.TrimPrefix(s.upstream.Address, "https://")
	s.helmLogin(host, s.upstream.Username, s.upstream.Password)
	file = s.chart(version)
	s.helm("", "push", file, "oci://"+host+"/"+s.root+"/"+repository)
	return file
}
