package egress_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"berth.dev/berth/egress"
)

// at is an address at a port of which nothing is known.
func at(address string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(address), 443) }

func TestCheckForbids(t *testing.T) {
	t.Parallel()
	for class, addresses := range map[string][]string{
		"loopback":            {"127.0.0.1", "127.255.255.254", "::1"},
		"this network":        {"0.0.0.0", "0.1.2.3", "::"},
		"link-local":          {"169.254.169.254", "169.254.0.1", "fe80::1", "fe80::a9fe:a9fe", "fe80::1%eth0"},
		"site-local":          {"fec0::1"},
		"metadata in ULA":     {"fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fd00:a9fe:a9fe::1", "fd00:100::100:200"},
		"metadata elsewhere":  {"168.63.129.16", "100.100.100.200", "192.0.0.192"},
		"shared":              {"100.64.0.1", "100.127.255.255"},
		"IETF, documentation": {"192.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"},
		"benchmarking":        {"198.18.0.1", "198.19.255.255"},
		"multicast":           {"224.0.0.1", "239.255.255.255", "ff02::1"},
		"reserved":            {"240.0.0.1", "255.255.255.254", "4000::1", "100::1"},
		"broadcast":           {"255.255.255.255"},
		"IPv4-mapped":         {"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8"},
		"IPv4-compatible":     {"::127.0.0.1", "::10.0.0.1"},
		"NAT64":               {"64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::7f00:1"},
		"6to4":                {"2002:7f00::", "2002:7f00:1::1"},
		"Teredo":              {"2001::1", "2001:0:7f00:1::"},
		"zone on an ULA":      {"fd12::1%eth0", "fd00:ec2::254%eth0"},
	} {
		t.Run(class, func(t *testing.T) {
			t.Parallel()
			for _, address := range addresses {
				if err := egress.NewDialer().Check(at(address)); !errors.Is(err, egress.ErrForbidden) {
					t.Errorf("Check(%s) = %v, want %v", address, err, egress.ErrForbidden)
				}
			}
		})
	}
	if err := egress.NewDialer().Check(netip.AddrPort{}); !errors.Is(err, egress.ErrForbidden) {
		t.Errorf("Check of no address = %v, want %v", err, egress.ErrForbidden)
	}
}

func TestCheckAllows(t *testing.T) {
	t.Parallel()
	for class, addresses := range map[string][]string{
		"RFC 1918": {"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255"},
		"ULA":      {"fd12::1", "fd12:3456:789a::1", "fc00::1", "fd00:ec3::1", "fd20:ce::253"},
		"public":   {"8.8.8.8", "172.32.0.1", "100.63.255.255", "100.128.0.1", "168.63.129.15", "223.255.255.255", "2606:4700::1111", "2a00:1450::1"},
	} {
		t.Run(class, func(t *testing.T) {
			t.Parallel()
			for _, address := range addresses {
				if err := egress.NewDialer().Check(at(address)); err != nil {
					t.Errorf("Check(%s) = %v", address, err)
				}
			}
		})
	}
}

func TestDeniedPrefixesWin(t *testing.T) {
	t.Parallel()
	d := egress.NewDialer(netip.MustParsePrefix("10.96.0.1/12"), netip.MustParsePrefix("fd12::/64"), netip.MustParsePrefix("8.8.8.8/32"))
	for address, want := range map[string]error{
		"10.96.0.1":      egress.ErrForbidden,
		"10.111.255.255": egress.ErrForbidden,
		"10.112.0.0":     nil,
		"fd12::1":        egress.ErrForbidden,
		"fd12:0:0:1::":   nil,
		"8.8.8.8":        egress.ErrForbidden,
		"8.8.4.4":        nil,
	} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			if err := d.Check(at(address)); !errors.Is(err, want) {
				t.Errorf("Check = %v, want %v", err, want)
			}
		})
	}
}

func FuzzCheck(f *testing.F) {
	for _, seed := range []string{"10.0.0.1", "127.0.0.1", "::ffff:10.0.0.1", "fd00:ec2::254", "2606:4700::1111"} {
		f.Add(netip.MustParseAddr(seed).AsSlice())
	}
	dialer := egress.NewDialer()
	f.Fuzz(func(t *testing.T, bytes []byte) {
		ip, _ := netip.AddrFromSlice(bytes)
		err := dialer.Check(netip.AddrPortFrom(ip, 443))
		if err == nil && (!ip.IsGlobalUnicast() || ip.Is4In6() || ip == netip.IPv6Unspecified()) {
			t.Errorf("Check(%s) = nil", ip)
		}
		if err != nil && ip.Is4() && ip.IsPrivate() {
			t.Errorf("Check(%s) = %v", ip, err)
		}
	})
}

func TestDialForbidsBeforeItConnects(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ network, host string }{
		"address":     {network: "tcp", host: "127.0.0.1"},
		"name":        {network: "tcp", host: "localhost"},
		"unspecified": {network: "tcp", host: "0.0.0.0"},
		"no host":     {network: "tcp", host: ""},
		"IPv4-mapped": {network: "tcp", host: "::ffff:127.0.0.1"},
		"udp":         {network: "udp", host: "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := egress.NewDialer().DialContext(t.Context(), tc.network, net.JoinHostPort(tc.host, port))
			if err == nil {
				_ = conn.Close()
			}
			if !errors.Is(err, egress.ErrForbidden) {
				t.Errorf("DialContext = %v, want %v", err, egress.ErrForbidden)
			}
		})
	}
	// A connection of our own is the first that the listener gets.
	var own net.Dialer
	conn, err := own.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if accepted.RemoteAddr().String() != conn.LocalAddr().String() {
		t.Errorf("accepted a connection from %s, want %s", accepted.RemoteAddr(), conn.LocalAddr())
	}
	for _, c := range []interface{ Close() error }{accepted, conn, listener} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	endpoints := &egress.Endpoints{}
	endpoints.Set([]netip.AddrPort{at("10.0.0.1")}, []netip.AddrPort{at("10.244.0.1")})
	d := egress.NewDialer(netip.MustParsePrefix("10.96.0.0/12")).Avoiding(endpoints)
	to := at("2606:4700::1111")
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Check(to); err != nil {
			b.Fatal(err)
		}
	}
}
