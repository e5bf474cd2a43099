package bearer

import (
	"errors"
	"testing"

	"berth.dev/berth/api/v1alpha1"
)

func trusting(t testing.TB, address string, extensions ...string) Trust {
	t.Helper()
	spec := &v1alpha1.ConnectorSpec{Address: address}
	for _, value := range extensions {
		spec.AddressExtensions = append(spec.AddressExtensions, v1alpha1.AddressExtension{Name: "x", Value: value})
	}
	trust, err := NewTrust(spec)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

func TestTrust(t *testing.T) {
	t.Parallel()
	const public = "https://registry.example.com"
	for name, test := range map[string]struct {
		address, extension, realm string
		credential, anonymous     error
	}{
		"own host":                   {public, "", "https://registry.example.com/service/token", nil, nil},
		"own host, other port":       {public, "", "https://registry.example.com:8443/token", nil, nil},
		"own host, other spelling":   {public, "", "https://Registry.Example.Com./token", nil, nil},
		"own host without TLS":       {public, "", "http://registry.example.com/token", errNoTLS, errNoTLS},
		"same domain":                {public, "", "https://auth.example.com/token", nil, nil},
		"the domain itself":          {public, "", "https://example.com/token", nil, nil},
		"same domain without TLS":    {"http://registry.example.com", "", "http://auth.example.com/token", errNoTLS, errNoTLS},
		"other domain":               {public, "", "https://auth.example.org/token", errOtherHost, nil},
		"ends alike":                 {public, "", "https://evilexample.com/token", errOtherHost, nil},
		"starts alike":               {public, "", "https://registry.example.com.evil.org/token", errOtherHost, nil},
		"suffix of two labels":       {"https://registry.example.co.uk", "", "https://evil.co.uk/token", errOtherHost, nil},
		"below a suffix":             {"https://registry.example.co.uk", "", "https://auth.example.co.uk/token", nil, nil},
		"private suffix":             {"https://a.github.io", "", "https://b.github.io/token", errOtherHost, nil},
		"names of the cluster":       {"https://harbor.demo.svc.cluster.local", "", "https://evil.team.svc.cluster.local/token", errOtherHost, nil},
		"no suffix at all":           {"https://registry", "", "https://auth/token", errOtherHost, nil},
		"listed":                     {public, "https://auth.example.org", "https://auth.example.org/token?a=b", nil, nil},
		"listed with its port":       {public, "https://auth.example.org:443", "https://auth.example.org/token", nil, nil},
		"listed, other port":         {public, "https://auth.example.org", "https://auth.example.org:8443/token", errOtherHost, nil},
		"listed, without TLS":        {public, "http://auth.example.org", "http://auth.example.org/token", errNoTLS, errNoTLS},
		"below a listed one":         {public, "https://auth.example.org", "https://x.auth.example.org/token", errOtherHost, nil},
		"plain registry, own host":   {"http://registry.example.com:5000", "", "http://registry.example.com:5001/token", nil, nil},
		"plain registry, TLS realm":  {"http://registry.example.com", "", "https://auth.example.com/token", nil, nil},
		"own address":                {"https://10.0.0.4:5000", "", "https://10.0.0.4:5001/token", nil, nil},
		"other private address":      {"https://10.0.0.4", "https://10.0.0.5", "https://10.0.0.5/token", errAddress, errAddress},
		"metadata service":           {public, "", "https://169.254.169.254/latest", errAddress, errAddress},
		"IPv6":                       {public, "", "https://[fd00:ec2::254]/latest", errAddress, errAddress},
		"IPv4 in IPv6":               {public, "", "https://[::ffff:10.0.0.1]/token", errAddress, errAddress},
		"address with the same tail": {"https://10.0.0.4", "", "https://11.0.0.4/token", errAddress, errAddress},
		"own host as a user":         {public, "", "https://registry.example.com@evil.org/token", errNoURL, errNoURL},
		"with a password":            {public, "", "https://a:b@registry.example.com/token", errNoURL, errNoURL},
		"no host":                    {public, "", "/service/token", errNoURL, errNoURL},
		"only a port":                {public, "", "https://:443/token", errNoURL, errNoURL},
		"other scheme":               {public, "", "file://registry.example.com/token", errNoTLS, errNoTLS},
		"no URL":                     {public, "", "https://registry.example.com\x00/token", errNoURL, errNoURL},
		"backslash":                  {public, "", `https://registry.example.com\@evil.org/token`, errNoURL, errNoURL},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var extensions []string
			if test.extension != "" {
				extensions = append(extensions, test.extension)
			}
			trust := trusting(t, test.address, extensions...)
			for anonymous, want := range map[bool]error{false: test.credential, true: test.anonymous} {
				if to, err := trust.service(test.realm, anonymous); !errors.Is(err, want) || (to == nil) == (want == nil) {
					t.Errorf("anonymous %t: %v, %v, want %v", anonymous, to, err, want)
				}
			}
		})
	}
	if _, err := (Trust{}).service(public, true); err == nil {
		t.Error("no trust trusts")
	}
	for _, spec := range []v1alpha1.ConnectorSpec{{Address: "registry"}, {Address: public, AddressExtensions: []v1alpha1.AddressExtension{{Name: "x", Value: "%"}}}} {
		if _, err := NewTrust(&spec); err == nil {
			t.Errorf("%v is trusted", spec)
		}
	}
}
