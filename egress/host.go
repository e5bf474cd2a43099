package egress

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// ErrHost is wrapped by the error for text that is not a host and a port.
var ErrHost = errors.New("not a host and a port")

var errPort = errors.New("the port must be a number from 1 to 65535")

const (
	maxName  = 253
	maxLabel = 63
)

// Target is a host with a port, in the one spelling that each has: letters in
// lower case, no dot at the end, an address as RFC 5952 writes it and without
// brackets, IPv4 never within IPv6.
type Target struct {
	Host, Port string
}

// ParseTarget reads 'host:port', or 'host' where there is a default port. What
// servers read in different ways is refused: a user before the host, a zone, a
// percent sign, and whatever looks like a number and is not an IPv4 address in
// four decimal parts (0177.0.0.1, 127.1, 0x7f000001).
func ParseTarget(authority, defaultPort string) (Target, error) {
	host, port, err := splitPort(authority)
	if err != nil {
		return Target{}, err
	}
	if port == "" {
		port = defaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' || port[0] == '+' {
		return Target{}, errors.Join(ErrHost, errPort)
	}
	if inside, ok := strings.CutPrefix(host, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inside, "]"))
		if err != nil || ip.Zone() != "" || !strings.Contains(inside, ":") {
			return Target{}, errors.Join(ErrHost, errors.New("between brackets there must be an IPv6 address"))
		}
		return Target{ip.Unmap().String(), port}, nil
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		return Target{host, port}, nil
	}
	if err := checkName(host); err != nil {
		return Target{}, errors.Join(ErrHost, err)
	}
	return Target{host, port}, nil
}

// splitPort cuts at the colon after the host; there may be none.
func splitPort(authority string) (host, port string, err error) {
	end := strings.LastIndexByte(authority, ']') + 1
	at := strings.IndexByte(authority[end:], ':')
	if at < 0 {
		if end != 0 && end != len(authority) {
			return "", "", errors.Join(ErrHost, errors.New("after brackets there must be a port"))
		}
		return authority, "", nil
	}
	if end != 0 && at != 0 {
		return "", "", errors.Join(ErrHost, errors.New("after brackets there must be a port"))
	}
	host, port = authority[:end+at], authority[end+at+1:]
	if port == "" {
		return "", "", errors.Join(ErrHost, errors.New("after a colon there must be a port"))
	}
	return host, port, nil
}

// checkName refuses what is not a DNS name, and names that some resolvers take for an address.
func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return errors.New("a host must have 1 to 253 characters")
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return errors.New("a host must be a DNS name or an address")
		}
		last = label
	}
	if last[0] >= '0' && last[0] <= '9' {
		return errors.New("a host whose last part begins with a digit must be an IPv4 address in four decimal parts")
	}
	return nil
}
