// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	v1 "weft/api/v1"
)

// dual is tenant red with a VPC of both families, a subnet of both, one without IPv4, one without IPv6, and some ports.
func dual() string {
	return head("Tenant", "", "red") +
		head("VPC", "red", "main") + "spec: {prefixes: [10.0.0.0/16, 'fd00::/48']}\n" +
		head("Subnet", "red", "web") + "spec: {vpc: main, prefixes: ['fd00:0:0:1::/64', 10.0.1.0/24]}\n" +
		head("Subnet", "red", "six") + "spec: {vpc: main, prefixes: ['fd00:0:0:6::/124'], gateway: 'fd00:0:0:6::4'}\n" +
		head("Subnet", "red", "four") + "spec: {vpc: main, prefixes: [10.0.4.0/24]}\n" +
		head("Port", "red", "web-1") + "spec: {subnet: web}\n" +
		head("Port", "red", "six-1") + "spec: {subnet: six}\n" +
		head("Port", "red", "four-1") + "spec: {subnet: four}\n" +
		head("Port", "red", "only-6") + "spec: {subnet: web, addresses: ['fd00:0:0:1::99']}\n" +
		head("Port", "red", "both") + "spec: {subnet: web, addresses: ['fd00:0:0:1::77', 10.0.1.77]}\n"
}

func TestPortGetsTheLowestFreeAddressOfEachFamily(t *testing.T) {
	s := newSite(t)
	s.mustApply(dual())
	s.mustApply(head("Port", "red", "web-2") + "spec: {subnet: web}\n" + head("Port", "red", "six-2") + "spec: {subnet: six}\n")
	for name, want := range map[string]string{
		"web-1": "[10.0.1.4 fd00:0:0:1::4]", "web-2": "[10.0.1.5 fd00:0:0:1::5]", "four-1": "[10.0.4.4]",
		"six-1": "[fd00:0:0:6::5]", "six-2": "[fd00:0:0:6::6]", // ::4 is the router's
		"only-6": "[fd00:0:0:1::99]", "both": "[10.0.1.77 fd00:0:0:1::77]",
	} {
		if got := fmt.Sprint(s.port("red", name).Status.Addresses); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
	for _, i := range s.mustApply(dual()).Items {
		if i.Action != v1.ActionUnchanged {
			t.Errorf("%s %s was %s by the same documents", i.Kind, i.Name, i.Action)
		}
	}
	for i := range 9 { // a /124 has 16 addresses: 5 are kept, 2 taken
		s.mustApply(head("Port", "red", fmt.Sprint("more-", i)) + "spec: {subnet: six}\n")
	}
	if got := s.port("red", "more-8").Status.Addresses[0]; got.String() != "fd00:0:0:6::f" { // IPv6 has no broadcast
		t.Errorf("the last one is %s", got)
	}
	if _, e := s.apply(head("Port", "red", "x") + "spec: {subnet: six}\n"); e == nil || e.Code != v1.CodeExhausted || !strings.Contains(e.Message, "IPv6") {
		t.Errorf("error %v, want EXHAUSTED", e)
	}
}

// TestOneFamilyIsExhausted: a port does not silently do without what its subnet promises.
func TestOneFamilyIsExhausted(t *testing.T) {
	s := newSite(t)
	s.mustApply(dual() + head("Subnet", "red", "tiny") + "spec: {vpc: main, prefixes: [10.0.9.0/29, 'fd00:0:0:9::/64']}\n" +
		head("Port", "red", "a") + "spec: {subnet: tiny}\n" + head("Port", "red", "b") + "spec: {subnet: tiny}\n" + head("Port", "red", "c") + "spec: {subnet: tiny}\n")
	_, e := s.apply(head("Port", "red", "d") + "spec: {subnet: tiny}\n")
	if e == nil || e.Code != v1.CodeExhausted || !strings.Contains(e.Message, "no IPv4 address is free in 10.0.9.0/29") || !strings.Contains(e.Fix, "one family") {
		t.Errorf("error %v, want EXHAUSTED of IPv4", e)
	}
	s.mustApply(head("Port", "red", "d") + "spec: {subnet: tiny, addresses: ['fd00:0:0:9::7']}\n")
	s.mustApply(head("Subnet", "red", "tiny") + "spec: {vpc: main, prefixes: [10.0.9.0/29, 10.0.9.8/29, 'fd00:0:0:9::/64']}\n" + head("Port", "red", "e") + "spec: {subnet: tiny}\n")
	if got := fmt.Sprint(s.port("red", "e").Status.Addresses); got != "[10.0.9.12 fd00:0:0:9::8]" {
		t.Errorf("from the second range it got %s", got)
	}
}

func TestBadIPv6ChangesNothing(t *testing.T) {
	s := newSite(t)
	s.mustApply(dual() + node("host-1", "192.0.2.9"))
	before := s.api.cfg.Store.View().Revision()
	for name, c := range map[string]struct{ doc, code, field, says string }{
		"outside_vpc":   {head("Subnet", "red", "x") + "spec: {vpc: main, prefixes: ['fd01::/64']}\n", v1.CodeOutside, "spec.prefixes[0]", "fd00::/48"},
		"v6_in_v4_vpc":  {head("VPC", "red", "b") + "spec: {prefixes: [10.0.0.0/8]}\n" + head("Subnet", "red", "x") + "spec: {vpc: b, prefixes: ['a00::/24']}\n", v1.CodeOutside, "spec.prefixes[0]", "10.0.0.0/8"},
		"overlaps":      {head("Subnet", "red", "x") + "spec: {vpc: main, prefixes: [10.0.5.0/24, 'fd00:0:0:1:8000::/65']}\n", v1.CodeOverlap, "spec.prefixes[1]", "subnet web"},
		"taken":         {head("Port", "red", "x") + "spec: {subnet: web, addresses: ['fd00:0:0:1:0::4']}\n", v1.CodeInUse, "spec.addresses[0]", "port web-1"},
		"second_taken":  {head("Port", "red", "x") + "spec: {subnet: web, addresses: [10.0.1.50, 'fd00:0:0:1::4']}\n", v1.CodeInUse, "spec.addresses[1]", "port web-1"},
		"reserved":      {head("Port", "red", "x") + "spec: {subnet: web, addresses: ['fd00:0:0:1::2']}\n", v1.CodeReserved, "spec.addresses[0]", "resolver"},
		"router":        {head("Port", "red", "x") + "spec: {subnet: six, addresses: ['fd00:0:0:6::4']}\n", v1.CodeReserved, "spec.addresses[0]", "router"},
		"not_in_subnet": {head("Port", "red", "x") + "spec: {subnet: four, addresses: ['fd00:0:0:1::9']}\n", v1.CodeOutside, "spec.addresses[0]", "10.0.4.0/24"},
		"two_of_one":    {head("Port", "red", "x") + "spec: {subnet: web, addresses: ['fd00:0:0:1::9', 'fd00:0:0:1::a']}\n", v1.CodeInvalid, "spec.addresses[1]", "each family"},
		"mapped":        {head("Port", "red", "x") + "spec: {subnet: web, addresses: ['::ffff:10.0.1.9']}\n", v1.CodeInvalid, "spec.addresses[0]", "IPv4 address"},
		"strands_port":  {head("Subnet", "red", "web") + "spec: {vpc: main, prefixes: [10.0.1.0/24]}\n", v1.CodeInUse, "spec", "fd00:0:0:1::"},
		"strands_net":   {head("VPC", "red", "main") + "spec: {prefixes: [10.0.0.0/16]}\n", v1.CodeInUse, "spec.prefixes", "fd00:0:0:6::/124"},
		"other_family":  {node("host-2", "2001:db8::2"), v1.CodePrecondition, "spec.address", "one family"},
		"link_local":    {node("host-2", "fe80::2"), v1.CodeInvalid, "spec.address", "link local"},
	} {
		t.Run(name, func(t *testing.T) {
			_, e := s.apply(c.doc)
			if e == nil {
				t.Fatal("it was accepted")
			}
			if e.Code != c.code || e.Field != c.field || !strings.Contains(e.Message, c.says) || e.Fix == "" || e.Object == "" {
				t.Errorf("got %s at %q: %s (%s); want %s at %q with %q", e.Code, e.Field, e.Message, e.Fix, c.code, c.field, c.says)
			}
		})
	}
	if after := s.api.cfg.Store.View().Revision(); after != before {
		t.Errorf("the store went from revision %d to %d", before, after)
	}
}

// TestClusterHasOneFamilyOfTunnelEnds: a node of the other family is refused as it joins, with words that help; all nodes
// may change at once.
func TestClusterHasOneFamilyOfTunnelEnds(t *testing.T) {
	s := newSite(t)
	s.mustApply(node("host-1", "192.0.2.1") + node("host-2", "192.0.2.2"))
	hello := v1.Node{
		TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindNode}, Metadata: v1.Metadata{Name: "host-3"},
		Spec: v1.NodeSpec{Address: netip.MustParseAddr("2001:db8::3"), Roles: []string{"host"}},
	}
	before := s.api.cfg.Store.View().Revision()
	_, err := s.api.RegisterNode(t.Context(), hello)
	if codeOf(err) != v1.CodePrecondition || !strings.Contains(err.Error(), "host-1 has 192.0.2.1") || s.api.cfg.Store.View().Revision() != before {
		t.Errorf("a node with IPv6 joined one of IPv4: %v", err)
	}
	s.mustApply(node("host-1", "2001:db8::1") + node("host-2", "2001:db8::2"))
	if _, err := s.api.RegisterNode(t.Context(), hello); err != nil {
		t.Errorf("a node with IPv6 among its like: %v", err)
	}
}

// TestHugeRangesAreNotWalked: to find the lowest free address costs what is taken, not what is there.
func TestHugeRangesAreNotWalked(t *testing.T) {
	s := newSite(t)
	s.mustApply(head("Tenant", "", "red") + head("VPC", "red", "main") + "spec: {prefixes: ['fd00::/16']}\n" +
		head("Subnet", "red", "web") + "spec: {vpc: main, prefixes: ['fd00::/16']}\n")
	start := time.Now()
	for i := range 10 {
		var docs strings.Builder
		for j := range documentsMost {
			docs.WriteString(head("Port", "red", fmt.Sprintf("p-%d-%d", i, j)) + "spec: {subnet: web}\n")
		}
		s.mustApply(docs.String())
	}
	if took := time.Since(start); took > 20*time.Second { // less than a second, without the race detector and neighbours
		t.Errorf("1000 ports took %s", took)
	}
	if got := s.port("red", "p-9-99").Status.Addresses[0]; got.String() != "fd00::3eb" {
		t.Errorf("the last one is %s", got)
	}
}
