// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	v1 "weft/api/v1"
	"weft/internal/control/state"
	"weft/internal/southbound"
)

// random makes a world of tenants whose resources have the same few names and addresses, and refer to each other at random:
// to what is there, to what is in another VPC, and to what is nowhere.
func random(r *rand.Rand) world {
	w := world{}
	add := func(o v1.Object) { w[v1.ID(o)] = o }
	name := func(prefix string, n int) string { return fmt.Sprint(prefix, r.IntN(n)) }
	for i := range 3 {
		add(&v1.Node{Metadata: v1.Metadata{Name: fmt.Sprint("n", i)}, Spec: v1.NodeSpec{Address: netip.AddrFrom4([4]byte{198, 19, 0, byte(i + 1)})}, Status: v1.NodeStatus{Number: uint16(i + 1)}})
	}
	vni := uint32(4096)
	for t := range 3 {
		tenant := fmt.Sprint("t", t)
		add(&v1.Tenant{Metadata: v1.Metadata{Name: tenant}, Status: v1.TenantStatus{Number: uint32(t + 1)}})
		meta := func(name string) v1.Metadata { return v1.Metadata{Tenant: tenant, Name: name} }
		for v := range 2 {
			add(&v1.VPC{Metadata: meta(fmt.Sprint("v", v)), Status: v1.VPCStatus{VNI: vni}})
			vni++
		}
		for s := range 4 {
			o := &v1.Subnet{Metadata: meta(fmt.Sprint("s", s)), Spec: v1.SubnetSpec{VPC: name("v", 3)}, Status: v1.SubnetStatus{Number: uint32(s + 1)}}
			for _, p := range []string{"10.0.%d.0/24", "fd00:0:0:%d::/64"} {
				if r.IntN(3) > 0 {
					o.Spec.Prefixes = append(o.Spec.Prefixes, netip.MustParsePrefix(fmt.Sprintf(p, s)))
				}
			}
			add(o)
		}
		for p := range 6 {
			o := &v1.Port{Metadata: meta(fmt.Sprint("p", p)), Spec: v1.PortSpec{Subnet: name("s", 5)}}
			o.Status = v1.PortStatus{VPC: name("v", 3), MAC: v1.MAC{2, byte(t), 0, 0, 0, byte(p + 1)}, Addresses: []netip.Addr{
				netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(4)), byte(4 + p)}), netip.MustParseAddr(fmt.Sprintf("fd00:0:0:%d::%d", r.IntN(4), 4+p)),
			}}
			if r.IntN(4) > 0 {
				o.Status.Node, o.Status.Binding = name("n", 4), "b"
			}
			if r.IntN(2) > 0 {
				o.Spec.AllowedSources = []netip.Prefix{netip.MustParsePrefix("::/0"), netip.MustParsePrefix("0.0.0.0/0")}
			}
			add(o)
		}
		for i := range 3 {
			o := &v1.RouteTable{Metadata: meta(fmt.Sprint("r", i)), Spec: v1.RouteTableSpec{VPC: name("v", 3), Subnets: []string{name("s", 5), name("s", 5)}}, Status: v1.RouteTableStatus{Number: uint32(i + 1)}}
			for j := range 3 {
				via := []string{"port/" + name("p", 7), "blackhole", ""}[r.IntN(3)]
				o.Spec.Routes = append(o.Spec.Routes, v1.Route{To: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(j), 0, 0}), 16), Via: via})
			}
			add(o)
		}
	}
	return w
}

// TestRowsNameNothingOfOthers: whatever resources refer to, the rows of a VPC have its VNI, its tenant's name and number, and
// MACs and addresses of its own attached ports; ports are at the nodes that get their rows.
func TestRowsNameNothingOfOthers(t *testing.T) {
	routes := 0
	for seed := range uint64(2000) {
		for _, res := range random(rand.New(rand.NewPCG(seed, 3))).vpcs() {
			v := Resolve(res)
			rows := Compute(v)
			all := slices.Clone(rows.Common)
			for node, own := range rows.Own {
				for _, row := range own {
					if i := slices.IndexFunc(v.Nodes, func(n state.Node) bool { return n.Number == node }); i < 0 {
						t.Fatalf("seed %d: %s goes to node %d, which does not host the VPC", seed, row, node)
					}
				}
				all = append(all, own...)
			}
			macs := map[southbound.MAC]uint16{} // of the tenant's ports in this VPC, with the number of their node
			for _, p := range res.Ports {
				if n := res.Node(p.Status.Node); n != nil {
					macs[southbound.MAC(p.Status.MAC)] = n.Status.Number
				}
			}
			for _, row := range all {
				if bad := foreign(row, res, macs); bad != "" {
					t.Fatalf("seed %d, VPC %s/%s (%d): %s: %s", seed, res.VPC.Tenant, res.VPC.Name, res.VPC.Status.VNI, row, bad)
				}
				if r, ok := row.(southbound.Route); ok && r.Node != 0 {
					routes++
				}
			}
		}
	}
	if routes < 200 {
		t.Errorf("only %d routes led to a port", routes)
	}
}

// foreign says what of a row is not of its VPC, or returns "".
func foreign(row southbound.Row, res Resources, macs map[southbound.MAC]uint16) string {
	if row.Key().VNI != res.VPC.Status.VNI {
		return "another VNI"
	}
	owns := func(mac southbound.MAC, node uint16) string {
		if n, ok := macs[mac]; !ok || n != node {
			return fmt.Sprintf("MAC %s is of no port of the VPC at node %d", mac, node)
		}
		return ""
	}
	switch r := row.(type) {
	case southbound.VPC:
		if r.Tenant != res.Tenant.Name || r.TenantNumber != res.Tenant.Status.Number || r.Name != res.VPC.Name {
			return "another tenant"
		}
	case southbound.Port:
		if r.Tenant != res.Tenant.Name || r.TenantNumber != res.Tenant.Status.Number {
			return "another tenant"
		}
		if _, ok := macs[r.MAC]; !ok {
			return "MAC of no port of the VPC"
		}
	case southbound.Location:
		return owns(r.MAC, r.Node)
	case southbound.Route:
		if r.Via == southbound.RoutePort && r.Node != 0 {
			return owns(r.MAC, r.Node)
		}
		if r.Node != 0 || r.MAC != (southbound.MAC{}) {
			return "a way to nowhere names a node or a MAC"
		}
	}
	return ""
}
