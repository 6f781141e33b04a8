// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"net/netip"
	"slices"

	v1 "weft/api/v1"
	"weft/internal/control/state"
)

// Resources is one VPC as users wrote it, with all that refers to it. Order does not matter.
type Resources struct {
	Tenant      *v1.Tenant
	VPC         *v1.VPC
	Subnets     []*v1.Subnet     // of the VPC
	Ports       []*v1.Port       // of the subnets
	RouteTables []*v1.RouteTable // of the VPC
	Node        func(name string) *v1.Node
}

// Resolve turns resources into the state that the functions work on. What refers to something that is not there (which
// admission does not let happen) is left out: it forwards nothing and hurts nothing else.
func Resolve(r Resources) state.VPC {
	v := state.VPC{
		VNI: r.VPC.Status.VNI, Tenant: r.VPC.Tenant, Name: r.VPC.Name,
		TenantNumber: r.Tenant.Status.Number, Prefixes: r.VPC.Spec.Prefixes,
	}
	index := resolveSubnets(&v, r.Subnets)
	nodes := make(map[string]*v1.Node)
	for _, p := range r.Ports {
		subnet, ok := index[p.Spec.Subnet]
		if !ok || p.Status.Node == "" {
			continue
		}
		node, seen := nodes[p.Status.Node]
		if !seen {
			node = r.Node(p.Status.Node)
			nodes[p.Status.Node] = node
			if node != nil {
				v.Nodes = append(v.Nodes, state.Node{Number: node.Status.Number, Name: node.Name, Address: node.Spec.Address})
			}
		}
		if node == nil {
			continue
		}
		v.Ports = append(v.Ports, state.Port{
			Name: p.Name, Subnet: subnet, Addresses: p.Status.Addresses, MAC: p.Status.MAC,
			Sources: slices.SortedFunc(slices.Values(p.Spec.AllowedSources), comparePrefixes),
			Node:    node.Status.Number, Binding: p.Status.Binding,
		})
	}
	slices.SortFunc(v.Nodes, func(a, b state.Node) int { return cmp.Compare(a.Number, b.Number) })
	slices.SortFunc(v.Ports, func(a, b state.Port) int { return cmp.Compare(a.Name, b.Name) })
	resolveTables(&v, r, index)
	return v
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// resolveTables fills v.RouteTables and the tables of v.Subnets; the ports are there already. A route to a port that is not
// there is kept, as one to a port that is attached nowhere: without it, packets would take a way that nobody wrote.
func resolveTables(v *state.VPC, r Resources, index map[string]int) {
	attached := make(map[string]state.Port, len(v.Ports))
	for _, p := range v.Ports {
		attached[p.Name] = p
	}
	sorted := slices.SortedFunc(slices.Values(r.RouteTables), func(a, b *v1.RouteTable) int {
		return cmp.Or(cmp.Compare(a.Status.Number, b.Status.Number), cmp.Compare(a.Name, b.Name))
	})
	for _, t := range sorted {
		used := false
		for _, name := range t.Spec.Subnets {
			if i, ok := index[name]; ok && v.Subnets[i].Table == 0 {
				v.Subnets[i].Table, used = t.Status.Number, true
			}
		}
		if !used {
			continue
		}
		table := state.RouteTable{Number: t.Status.Number}
		for _, route := range t.Spec.Routes {
			name, isPort := route.Port()
			hop := attached[name]
			table.Routes = append(table.Routes, state.Route{Prefix: route.To, Blackhole: !isPort, Node: hop.Node, MAC: hop.MAC})
		}
		v.RouteTables = append(v.RouteTables, table)
	}
}

// resolveSubnets fills v.Subnets and returns the index of each by name.
func resolveSubnets(v *state.VPC, subnets []*v1.Subnet) map[string]int {
	sorted := slices.SortedFunc(slices.Values(subnets), func(a, b *v1.Subnet) int {
		return cmp.Compare(a.Status.Number, b.Status.Number)
	})
	index := make(map[string]int, len(sorted))
	for i, s := range sorted {
		index[s.Name] = i
		subnet := state.Subnet{Number: s.Status.Number, DNS: s.Spec.DNS}
		for _, p := range s.Spec.Prefixes {
			subnet.Ranges = append(subnet.Ranges, state.Range{Prefix: p, Gateway: s.Gateway(p)})
		}
		v.Subnets = append(v.Subnets, subnet)
	}
	return index
}
