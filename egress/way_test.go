package egress_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/egress"
)

// recorder resolves by a table, and dials nothing: it notes what it was asked.
type recorder struct {
	names    map[string][][]string // the answers, one after the other
	resolved []string
	dialled  []string
	fail     map[string]bool
}

var errDown = errors.New("down")

func (r *recorder) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	r.resolved = append(r.resolved, network+" "+host)
	answers := r.names[host]
	if len(answers) == 0 {
		return nil, &net.DNSError{IsNotFound: true, Name: host}
	}
	if len(answers) > 1 {
		r.names[host] = answers[1:]
	}
	var found []netip.Addr
	for _, text := range answers[0] {
		found = append(found, netip.MustParseAddr(text))
	}
	return found, nil
}

func (r *recorder) dial(_ context.Context, _, address string) (net.Conn, error) {
	r.dialled = append(r.dialled, address)
	if r.fail[address] {
		return nil, errDown
	}
	near, far := net.Pipe()
	_ = far.Close()
	return near, nil
}

func policy(t *testing.T, mode egress.Mode, allow, deny []string) *egress.Policy {
	t.Helper()
	p := &egress.Policy{Mode: mode}
	var err, err2 error
	p.Allow, err = egress.ParseDestinations(allow)
	p.Deny, err2 = egress.ParseDestinations(deny)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWay(t *testing.T) {
	t.Parallel()
	type world = map[string][][]string
	for name, tc := range map[string]struct {
		mode        egress.Mode
		allow, deny []string
		names       world
		host        string
		fail        map[string]bool
		dialled     []string
		err         error
	}{
		"a public name":                {host: "a.example", names: world{"a.example.": {{"203.0.115.1"}}}, dialled: []string{"203.0.115.1:443"}},
		"a private name":               {host: "a.example", names: world{"a.example.": {{"10.1.2.3"}}}, dialled: []string{"10.1.2.3:443"}},
		"an address":                   {host: "203.0.115.1", dialled: []string{"203.0.115.1:443"}},
		"IPv6":                         {host: "2606:4700::1", dialled: []string{"[2606:4700::1]:443"}},
		"loopback":                     {host: "127.0.0.1", err: egress.ErrForbidden},
		"loopback, IPv6":               {host: "::1", err: egress.ErrForbidden},
		"unspecified":                  {host: "0.0.0.0", err: egress.ErrForbidden},
		"metadata":                     {host: "169.254.169.254", err: egress.ErrForbidden},
		"metadata, AWS by IPv6":        {host: "fd00:ec2::254", err: egress.ErrForbidden},
		"IPv4 in IPv6":                 {host: "::ffff:127.0.0.1", err: egress.ErrForbidden},
		"NAT64 of loopback":            {host: "64:ff9b::7f00:1", err: egress.ErrForbidden},
		"6to4 of loopback":             {host: "2002:7f00:1::", err: egress.ErrForbidden},
		"Berth itself":                 {host: "10.96.0.1", err: egress.ErrForbidden},
		"a name of loopback":           {host: "localhost.example", names: world{"localhost.example.": {{"127.0.0.1", "::1"}}}, err: egress.ErrForbidden},
		"a name of both":               {host: "a.example", names: world{"a.example.": {{"127.0.0.1", "203.0.115.1", "169.254.169.254"}}}, dialled: []string{"203.0.115.1:443"}},
		"public first, then loopback":  {host: "a.example", names: world{"a.example.": {{"203.0.115.1"}, {"127.0.0.1"}}}, dialled: []string{"203.0.115.1:443"}},
		"no such name":                 {host: "a.example", err: &net.DNSError{IsNotFound: true, Name: "a.example."}},
		"the second address":           {host: "a.example", names: world{"a.example.": {{"203.0.115.1", "203.0.115.2"}}}, fail: map[string]bool{"203.0.115.1:443": true}, dialled: []string{"203.0.115.1:443", "203.0.115.2:443"}},
		"none answers":                 {host: "203.0.115.1", fail: map[string]bool{"203.0.115.1:443": true}, dialled: []string{"203.0.115.1:443"}, err: errDown},
		"public: private":              {mode: egress.Public, host: "a.example", names: world{"a.example.": {{"10.1.2.3"}}}, err: egress.ErrPolicy},
		"public: private, allowed":     {mode: egress.Public, allow: []string{"10.1.0.0/16"}, host: "10.1.2.3", dialled: []string{"10.1.2.3:443"}},
		"public: public":               {mode: egress.Public, host: "203.0.115.1", dialled: []string{"203.0.115.1:443"}},
		"connectors":                   {mode: egress.Connectors, host: "a.example", names: world{"a.example.": {{"203.0.115.1"}}}, err: egress.ErrPolicy},
		"connectors, allowed name":     {mode: egress.Connectors, allow: []string{"*.example"}, host: "a.example", names: world{"a.example.": {{"203.0.115.1"}}}, dialled: []string{"203.0.115.1:443"}},
		"connectors, allowed address":  {mode: egress.Connectors, allow: []string{"203.0.115.1"}, host: "a.example", names: world{"a.example.": {{"203.0.115.1"}}}, dialled: []string{"203.0.115.1:443"}},
		"connectors, another address":  {mode: egress.Connectors, allow: []string{"203.0.115.9"}, host: "a.example", names: world{"a.example.": {{"203.0.115.1"}}}, err: egress.ErrPolicy},
		"a domain is not below itself": {mode: egress.Connectors, allow: []string{"*.a.example"}, host: "a.example", err: egress.ErrPolicy},
		"denied name":                  {deny: []string{"a.example"}, allow: []string{"a.example"}, host: "a.example", err: egress.ErrPolicy},
		"denied domain":                {deny: []string{"*.example"}, host: "a.b.example", err: egress.ErrPolicy},
		"denied address":               {deny: []string{"203.0.115.0/24"}, allow: []string{"a.example"}, host: "a.example", names: world{"a.example.": {{"203.0.115.1"}}}, err: egress.ErrPolicy},
		"allowed, and never dialled":   {allow: []string{"127.0.0.0/8"}, host: "127.0.0.1", err: egress.ErrForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{names: tc.names, fail: tc.fail}
			w := &egress.Way{Resolver: r, Check: egress.NewDialer(netip.MustParsePrefix("10.96.0.1/32")).Check, Dial: r.dial}
			conn, err := w.Open(t.Context(), policy(t, tc.mode, tc.allow, tc.deny), egress.Target{Host: tc.host, Port: "443"})
			if conn != nil {
				_ = conn.Close()
			}
			var notFound *net.DNSError
			if same := errors.Is(err, tc.err) || errors.As(err, &notFound) && errors.As(tc.err, &notFound); !same {
				t.Errorf("Open = %v, want %v", err, tc.err)
			}
			if diff := cmp.Diff(tc.dialled, r.dialled); diff != "" {
				t.Errorf("dialled (-want +got):\n%s", diff)
			}
			if len(r.resolved) > 1 {
				t.Errorf("resolved %v: once is enough", r.resolved)
			}
		})
	}
}

func TestParseDestinationsRefuses(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{"", "*", "a.*.b", "*.", "https://a.example", "a.example:443", "10.0.0.0/33", "fe80::1%eth0", "1.2.3"} {
		if _, err := egress.ParseDestinations([]string{entry}); err == nil {
			t.Errorf("ParseDestinations takes '%s'", entry)
		}
	}
}
