// SPDX-License-Identifier: Apache-2.0

// Package port computes the rows that tell a node of the ports attached to it.
package port

import (
	"net/netip"

	"weft/internal/control/state"
	"weft/internal/southbound"
)

// Rows returns one row for each attached port of the VPC, by the number of the port's node.
func Rows(v state.VPC) map[uint16][]southbound.Row {
	rows := make(map[uint16][]southbound.Row)
	for _, p := range v.Ports {
		s := v.Subnets[p.Subnet]
		rows[p.Node] = append(rows[p.Node], southbound.Port{
			VNI: v.VNI, Tenant: v.Tenant, Name: p.Name, TenantNumber: v.TenantNumber,
			Subnet: s.Number, Table: s.Table, MAC: p.MAC, Binding: p.Binding, DNS: s.DNS,
			Interfaces: interfaces(s, p.Addresses), Sources: p.Sources,
		})
	}
	return rows
}

// interfaces joins each address with the subnet's range that holds it.
func interfaces(s state.Subnet, addrs []netip.Addr) []southbound.Interface {
	var out []southbound.Interface
	for _, a := range addrs {
		for _, r := range s.Ranges {
			if r.Prefix.Contains(a) {
				out = append(out, southbound.Interface{Address: a, Bits: r.Prefix.Bits(), Gateway: r.Gateway})
			}
		}
	}
	return out
}
