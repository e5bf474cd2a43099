package main

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/egress"
)

// slice has an endpoint for each address. Port 0 is none, which stands for all.
func slice(namespace string, kind discoveryv1.AddressType, ports []int32, addresses ...string) discoveryv1.EndpointSlice {
	s := discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}, AddressType: kind}
	for _, port := range ports {
		p := discoveryv1.EndpointPort{}
		if port != 0 {
			p.Port = &port
		}
		s.Ports = append(s.Ports, p)
	}
	for _, address := range addresses {
		// Whoever is not ready, or ends, may be reached.
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(false), Terminating: new(true)}})
	}
	return s
}

func TestEndpointsOf(t *testing.T) {
	t.Parallel()
	const v4, v6 = discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	for name, tc := range map[string]struct {
		slices           []discoveryv1.EndpointSlice
		apiServer, berth []string
	}{
		"none": {},
		"both": {
			slices: []discoveryv1.EndpointSlice{
				slice(metav1.NamespaceDefault, v4, []int32{6443}, "10.0.0.1", "10.0.0.2"), slice(v1alpha1.SystemNamespace, v4, []int32{8443, 3128}, "10.244.0.7"),
			},
			apiServer: []string{"10.0.0.1:6443", "10.0.0.2:6443"}, berth: []string{"10.244.0.7:8443", "10.244.0.7:3128"},
		},
		"both families": {
			slices: []discoveryv1.EndpointSlice{
				slice(metav1.NamespaceDefault, v4, []int32{6443}, "10.0.0.1"), slice(metav1.NamespaceDefault, v6, []int32{6443}, "fd12::1"),
				slice(v1alpha1.SystemNamespace, v6, []int32{9443}, "fd13::7"),
			},
			apiServer: []string{"10.0.0.1:6443", "[fd12::1]:6443"}, berth: []string{"[fd13::7]:9443"},
		},
		"no port":    {slices: []discoveryv1.EndpointSlice{slice(metav1.NamespaceDefault, v4, nil, "10.0.0.1")}, apiServer: []string{"10.0.0.1:0"}},
		"every port": {slices: []discoveryv1.EndpointSlice{slice(metav1.NamespaceDefault, v4, []int32{6443, 0}, "10.0.0.1")}, apiServer: []string{"10.0.0.1:0"}},
		"a name":     {slices: []discoveryv1.EndpointSlice{slice(metav1.NamespaceDefault, discoveryv1.AddressTypeFQDN, []int32{6443}, "api.example.com")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			apiServer, berth := endpointsOf(tc.slices)
			for what, pair := range map[string][2][]string{"the API server": {tc.apiServer, texts(apiServer)}, "Berth": {tc.berth, texts(berth)}} {
				if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
			}
		})
	}
}

func texts(all []netip.AddrPort) (texts []string) {
	for _, one := range all {
		texts = append(texts, one.String())
	}
	return texts
}

// sliceCache holds EndpointSlices.
type sliceCache struct {
	client.Reader
	items []discoveryv1.EndpointSlice
	err   error
}

func (s *sliceCache) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	list.(*discoveryv1.EndpointSliceList).Items = s.items
	return s.err
}

func TestWhereabouts(t *testing.T) {
	t.Parallel()
	cached, synced := &sliceCache{}, false
	w := &whereabouts{slices: cached, synced: func() bool { return synced }, endpoints: &egress.Endpoints{}}
	d := egress.NewDialer().Avoiding(w.endpoints)
	first, second, pod := netip.MustParseAddrPort("10.0.0.1:6443"), netip.MustParseAddrPort("10.0.0.2:6443"), netip.MustParseAddrPort("10.244.0.7:8080")
	at := func(namespace, address string, port int32) discoveryv1.EndpointSlice {
		return slice(namespace, discoveryv1.AddressTypeIPv4, []int32{port}, address)
	}
	const apiServer, berth = metav1.NamespaceDefault, v1alpha1.SystemNamespace
	type want = map[netip.AddrPort]error
	for _, step := range []struct {
		what   string
		items  []discoveryv1.EndpointSlice
		synced bool
		err    error
		want   want
	}{
		{"before all are there", []discoveryv1.EndpointSlice{at(apiServer, "10.0.0.1", 6443)}, false, nil, want{first: egress.ErrUnknown, pod: egress.ErrUnknown}},
		{"no API server", []discoveryv1.EndpointSlice{at(berth, "10.244.0.7", 8443)}, true, nil, want{first: egress.ErrUnknown, pod: egress.ErrUnknown}},
		{"all are there", []discoveryv1.EndpointSlice{at(apiServer, "10.0.0.1", 6443), at(berth, "10.244.0.7", 8443)}, true, nil, want{first: egress.ErrForbidden, second: nil, pod: egress.ErrForbidden}},
		{"another API server", []discoveryv1.EndpointSlice{at(apiServer, "10.0.0.2", 6443), at(berth, "10.244.0.7", 8443)}, true, nil, want{first: nil, second: egress.ErrForbidden, pod: egress.ErrForbidden}},
		{"the only API server ends", []discoveryv1.EndpointSlice{slice(apiServer, discoveryv1.AddressTypeIPv4, nil)}, true, nil, want{first: nil, second: egress.ErrForbidden, pod: nil}},
		{"and is there again", []discoveryv1.EndpointSlice{at(apiServer, "10.0.0.1", 6443)}, true, nil, want{first: egress.ErrForbidden, second: nil, pod: nil}},
		{"the cache fails", nil, true, errors.New("it failed"), want{first: egress.ErrForbidden, second: nil, pod: nil}},
	} {
		cached.items, cached.err, synced = step.items, step.err, step.synced
		w.update(t.Context())
		for to, want := range step.want {
			if err := d.Check(to); !errors.Is(err, want) {
				t.Errorf("%s: Check(%s) = %v, want %v", step.what, to, err, want)
			}
		}
	}
}

// serviceStore holds Services by name; one is refused.
type serviceStore struct {
	client.Reader
	addresses map[string][]string
	refused   string
}

func (s serviceStore) Get(_ context.Context, name client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	resource := schema.GroupResource{Resource: "services"}
	addresses, ok := s.addresses[name.String()]
	switch {
	case name.String() == s.refused:
		return apierrors.NewForbidden(resource, name.Name, nil)
	case !ok:
		return apierrors.NewNotFound(resource, name.Name)
	}
	o.(*corev1.Service).Spec.ClusterIPs = addresses
	return nil
}

func TestServiceAddresses(t *testing.T) {
	t.Parallel()
	world := serviceStore{addresses: map[string][]string{
		"default/kubernetes": {"10.96.0.1", "fd10::1"}, "berth-system/berth-proxy": {"10.96.0.9"}, "berth-system/berth-webhook": {"None"},
	}}
	found, err := serviceAddresses(t.Context(), world)
	want := []netip.Prefix{netip.MustParsePrefix("10.96.0.1/32"), netip.MustParsePrefix("fd10::1/128"), netip.MustParsePrefix("10.96.0.9/32")}
	if diff := cmp.Diff(want, found, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	delete(world.addresses, "berth-system/berth-webhook")
	if found, err := serviceAddresses(t.Context(), world); len(found) != len(want) || err != nil {
		t.Errorf("without a Service: %v, %v", found, err)
	}
	world.refused = "default/kubernetes"
	if _, err := serviceAddresses(t.Context(), world); err == nil || !strings.Contains(err.Error(), "'default/kubernetes'") || !strings.Contains(err.Error(), "Role '"+v1alpha1.EndpointsRole+"'") {
		t.Errorf("without the right: %v", err)
	}
}
