// Command testapp is the only program in the images that the test cluster
// makes: static, so that it is a whole image by itself.
package main

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: testapp COMMAND
  pause           wait for SIGTERM, reaping children (the default)
  echo WORDS      print the words
  env             print the environment
  files DIR...    print each file below each directory, with its content
  serve ADDRESS   answer HTTP on ADDRESS with who called
  get URL         print the body of URL; status 1 unless it answers 2xx
  lookup NAME     print the addresses of NAME; status 1 if there are none
`

func main() {
	name, rest := "pause", []string(nil)
	if len(os.Args) > 1 {
		name, rest = os.Args[1], os.Args[2:]
	}
	run, known := commands()[name]
	if !known {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := run(rest); err != nil {
		fmt.Fprintf(os.Stderr, "testapp %s: %v\n", name, err)
		os.Exit(1)
	}
}

func commands() map[string]func([]string) error {
	return map[string]func([]string) error{
		"pause": pause, "echo": echo, "env": environment, "files": files, "serve": serve, "get": get, "lookup": lookup,
	}
}

// pause is what a sandbox's first process does: nothing, for as long as
// nobody ends it, but reap what is orphaned in its PID namespace.
func pause([]string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return nil
		}
		for reaped, err := 1, error(nil); reaped > 0 && err == nil; {
			reaped, err = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
	return nil
}

func echo(words []string) error {
	fmt.Println(strings.Join(words, " "))
	return nil
}

func environment([]string) error {
	fmt.Println(strings.Join(os.Environ(), "\n"))
	return nil
}

func files(dirs []string) error {
	for _, dir := range dirs {
		if err := filepath.WalkDir(dir, printFile); err != nil {
			return err
		}
	}
	return nil
}

func printFile(path string, entry fs.DirEntry, err error) error {
	if err != nil || entry.IsDir() {
		return err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %q\n", path, content)
	return nil
}

func serve(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one address such as ':8080', got %d arguments", len(args))
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	server := http.Server{Addr: args[0], ReadHeaderTimeout: 10 * time.Second, Handler: answer(host)}
	return server.ListenAndServe()
}

func answer(host string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s to %s\n", host, r.RemoteAddr)
	}
}

func get(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one URL, got %d arguments", len(args))
	}
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(args[0])
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s answered %s", args[0], response.Status)
	}
	return nil
}

func lookup(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one name, got %d arguments", len(args))
	}
	addresses, err := net.LookupHost(args[0])
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(addresses, "\n"))
	return nil
}
