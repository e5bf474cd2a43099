package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// nodeArgument makes this program the process of a node, whose CPU time and memory are its own.
	nodeArgument = "node-process"
	// podsOfNode is what kubelet lets a node have by default.
	podsOfNode = 110
	// republishes are taken together, and republishEvery is how often kubelet asks for each at the most.
	republishes    = 20
	republishEvery = 60 * time.Second
	// coreShare and memoryShare are the bars: a hundredth of a core, and MiB above a node without volumes.
	coreShare   = 0.01
	memoryShare = 20
)

// usage is what the process of a node has used.
type usage struct {
	CPU    time.Duration `json:"cpu"`
	Memory int64         `json:"memory"` // bytes that are resident
}

// volumesOfNode measures a node full of Pods with files: what it costs to publish them again and again while nothing
// changes, and what memory the plugin takes beside the files themselves.
func volumesOfNode(ctx context.Context, out *results) error {
	if !mayMount("volumes") {
		return nil
	}
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	server, err := serveFiles(ctx, filesHandler)
	if err != nil {
		return err
	}
	defer server.close()
	node, err := startNode(ctx, server, folder)
	if err != nil {
		return err
	}
	var idle, before, after usage
	err = errors.Join(node.measure(&idle), node.do("publish", podsOfNode), node.measure(&before))
	for range republishes {
		err = errors.Join(err, node.do("publish", podsOfNode))
	}
	if err = errors.Join(err, node.measure(&after), node.do("unpublish", podsOfNode), node.end()); err != nil {
		return err
	}
	each := (after.CPU - before.CPU) / republishes
	out.ratio("republish-core", each.Seconds()/republishEvery.Seconds()/coreShare, 1)
	out.detailf("%v of CPU each minute for %d volumes", each, podsOfNode)
	grown := max(before.Memory, after.Memory) - idle.Memory
	out.ratio("volumes-memory-to-20MiB", float64(grown)/(memoryShare<<20), 1)
	out.detailf("%d KiB above the %d KiB of a plugin without volumes", grown>>10, idle.Memory>>10)
	return nil
}

// nodeProcess is a node in a process of its own, which does what it reads.
type nodeProcess struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

func startNode(ctx context.Context, server *filesServer, folder string) (*nodeProcess, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &nodeProcess{command: exec.CommandContext(ctx, program, nodeArgument, server.address.String(), folder)}
	n.command.Stderr = os.Stderr
	n.command.Env = append(os.Environ(), "BERTH_AUTHORITY="+string(server.authority))
	if n.in, err = n.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := n.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	n.out = bufio.NewReader(out)
	return n, n.command.Start()
}

// do has the node publish or unpublish volumes, and waits until it has.
func (n *nodeProcess) do(what string, count int) error {
	var ignored usage
	return n.ask(fmt.Sprintf("%s %d", what, count), &ignored)
}

func (n *nodeProcess) measure(into *usage) error { return n.ask("publish 0", into) }

func (n *nodeProcess) ask(what string, into *usage) error {
	if _, err := fmt.Fprintln(n.in, what); err != nil {
		return err
	}
	line, err := n.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the node's process: %w", err)
	}
	return json.Unmarshal(line, into)
}

func (n *nodeProcess) end() error { return errors.Join(n.in.Close(), n.command.Wait()) }

// beNode is the other side of nodeProcess.
func beNode(ctx context.Context, arguments []string) error {
	address, err := netip.ParseAddrPort(arguments[0])
	if err != nil {
		return err
	}
	p := newPlugin(ofProxy(&filesServer{address: address, authority: []byte(os.Getenv("BERTH_AUTHORITY"))}), arguments[1])
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		what, count, _ := strings.Cut(lines.Text(), " ")
		work := p.publish
		if what == "unpublish" {
			work = p.unpublish
		}
		n, err := strconv.Atoi(count)
		if err != nil {
			return err
		}
		for i := range n {
			if err := work(ctx, i); err != nil {
				return err
			}
		}
		used, err := ownUsage()
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(used); err != nil {
			return err
		}
	}
	return nil
}

// ownUsage is that of this process.
func ownUsage() (usage, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return usage{}, err
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return usage{}, err
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return usage{}, err
	}
	cpu := time.Duration(r.Utime.Nano() + r.Stime.Nano())
	return usage{CPU: cpu, Memory: resident * int64(os.Getpagesize())}, nil
}
