package egress_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"berth.dev/berth/egress"
)

func all(texts ...string) []netip.AddrPort {
	list := make([]netip.AddrPort, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParseAddrPort(text)
	}
	return list
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		apiServer, berth  []netip.AddrPort
		forbidden, dialed []netip.AddrPort
	}{
		"an API server, by its port": {
			apiServer: all("10.0.0.1:6443", "[fd12::1]:6443"),
			forbidden: all("10.0.0.1:6443", "[fd12::1]:6443"), dialed: all("10.0.0.1:443", "10.0.0.2:6443", "[fd12::1]:443", "[fd12::2]:6443"),
		},
		"API servers, each by its port": {
			apiServer: all("10.0.0.1:6443", "10.0.0.2:443"),
			forbidden: all("10.0.0.1:6443", "10.0.0.2:443"), dialed: all("10.0.0.1:443", "10.0.0.2:6443"),
		},
		"an API server at every port": {apiServer: all("10.0.0.1:0"), forbidden: all("10.0.0.1:6443", "10.0.0.1:443"), dialed: all("10.0.0.2:6443")},
		"a public API server":         {apiServer: all("203.0.115.1:443"), forbidden: all("203.0.115.1:443"), dialed: all("203.0.115.1:6443")},
		"a Pod of Berth's, whole": {
			berth:     all("10.244.0.7:8443", "10.244.0.7:3128", "[fd13::7]:8443"),
			forbidden: all("10.244.0.7:8443", "10.244.0.7:8080", "[fd13::7]:8081"), dialed: all("10.244.0.8:8443", "[fd13::8]:8443"),
		},
		"Berth on an API server's node, by its port": {
			apiServer: all("10.0.0.1:6443"), berth: all("10.0.0.1:9443"),
			forbidden: all("10.0.0.1:6443", "10.0.0.1:9443"), dialed: all("10.0.0.1:5000"),
		},
		"IPv4 in IPv6": {
			apiServer: all("[::ffff:10.0.0.1]:6443"), berth: all("[::ffff:10.0.0.1]:9443", "[::ffff:10.244.0.7]:8443"),
			forbidden: all("10.0.0.1:6443", "10.0.0.1:9443", "10.244.0.7:1"), dialed: all("10.0.0.1:5000"),
		},
		"none": {dialed: all("10.0.0.1:6443")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoints := &egress.Endpoints{}
			d := egress.NewDialer().Avoiding(endpoints).Allowing() // the second keeps what the first avoids
			endpoints.Set(tc.apiServer, tc.berth)
			for _, to := range tc.forbidden {
				if err := d.Check(to); !errors.Is(err, egress.ErrForbidden) {
					t.Errorf("Check(%s) = %v, want %v", to, err, egress.ErrForbidden)
				}
			}
			for _, to := range tc.dialed {
				if err := d.Check(to); err != nil {
					t.Errorf("Check(%s) = %v", to, err)
				}
			}
		})
	}
}

// TestEndpointsChange: nothing is dialled before the first are known; after that, what holds is what was last set.
func TestEndpointsChange(t *testing.T) {
	t.Parallel()
	endpoints := &egress.Endpoints{}
	d := egress.NewDialer().Avoiding(endpoints)
	first, second := netip.MustParseAddrPort("10.0.0.1:6443"), netip.MustParseAddrPort("10.0.0.2:6443")
	want := func(when string, ofFirst, ofSecond error) {
		t.Helper()
		if err := d.Check(first); !errors.Is(err, ofFirst) {
			t.Errorf("%s: Check(%s) = %v, want %v", when, first, err, ofFirst)
		}
		if err := d.Check(second); !errors.Is(err, ofSecond) {
			t.Errorf("%s: Check(%s) = %v, want %v", when, second, err, ofSecond)
		}
	}
	want("unknown", egress.ErrUnknown, egress.ErrUnknown)
	if endpoints.Known() {
		t.Error("nothing was set, and is known")
	}
	endpoints.Set([]netip.AddrPort{first}, nil)
	want("set", egress.ErrForbidden, nil)
	endpoints.Set([]netip.AddrPort{second}, nil)
	want("set again", nil, egress.ErrForbidden)
	if !endpoints.Known() {
		t.Error("what was set is not known")
	}
}

// TestWaysAvoidEndpoints: whatever the way, the check is of the address and the port that are dialled.
func TestWaysAvoidEndpoints(t *testing.T) {
	t.Parallel()
	endpoints := &egress.Endpoints{}
	endpoints.Set(all("10.0.0.1:6443"), all("10.244.0.7:8443"))
	dialer := egress.NewDialer().Avoiding(endpoints)
	parent, err := egress.NewParent("http://10.9.9.9:3128", nil, func() (string, error) { return "", nil })
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func(*egress.Way, egress.Target) error{
		"straight": func(w *egress.Way, to egress.Target) error {
			conn, err := w.Open(t.Context(), &egress.Policy{}, to)
			if conn != nil {
				_ = conn.Close()
			}
			return err
		},
		"by a parent": func(w *egress.Way, to egress.Target) error {
			w.Parent = func() *egress.Parent { return parent }
			_, err := w.Through(t.Context(), &egress.Policy{}, to)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for to, want := range map[egress.Target]error{
				{Host: "10.0.0.1", Port: "6443"}:     egress.ErrForbidden,
				{Host: "10.0.0.1", Port: "06443"}:    egress.ErrForbidden,
				{Host: "10.0.0.1", Port: "https"}:    egress.ErrHost,
				{Host: "10.0.0.1", Port: "5000"}:     nil,
				{Host: "api.example", Port: "6443"}:  egress.ErrForbidden,
				{Host: "api.example", Port: "https"}: egress.ErrHost,
				{Host: "api.example", Port: "5000"}:  nil,
				{Host: "10.244.0.7", Port: "8080"}:   egress.ErrForbidden,
			} {
				r := &recorder{names: map[string][][]string{"api.example.": {{"10.0.0.1"}}}}
				err := try(&egress.Way{Resolver: r, Check: dialer.Check, Dial: r.dial}, to)
				if !errors.Is(err, want) || err != nil && len(r.dialled) > 0 {
					t.Errorf("%v: %v, want %v; dialled %v", to, err, want, r.dialled)
				}
			}
		})
	}
}

// TestDialAvoidsEndpoints: the check is of the connection that is being made, so that none is where a name leads there.
func TestDialAvoidsEndpoints(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	address := netip.MustParseAddrPort(listener.Addr().String())
	endpoints := &egress.Endpoints{}
	d := egress.NewDialer().Allowing(netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")).Avoiding(endpoints)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		apiServer []netip.AddrPort
		want      error
	}{{nil, nil}, {[]netip.AddrPort{address}, egress.ErrForbidden}, {nil, nil}} {
		endpoints.Set(step.apiServer, nil)
		conn, err := d.DialContext(t.Context(), "tcp4", "localhost:"+port)
		if err == nil {
			_ = conn.Close()
		}
		if !errors.Is(err, step.want) {
			t.Errorf("with %v: %v, want %v", step.apiServer, err, step.want)
		}
	}
}
