// SPDX-License-Identifier: Apache-2.0

// Package vpc computes the rows that tell a node of a virtual network and its router: the same for every node.
package vpc

import (
	"weft/internal/control/state"
	"weft/internal/southbound"
)

// Rows returns the VPC's own row and one row for each prefix of each subnet, with the router's address in it.
func Rows(v state.VPC) []southbound.Row {
	rows := []southbound.Row{southbound.VPC{
		VNI: v.VNI, Tenant: v.Tenant, Name: v.Name, TenantNumber: v.TenantNumber, Prefixes: v.Prefixes,
	}}
	for _, s := range v.Subnets {
		for _, r := range s.Ranges {
			rows = append(rows, southbound.Subnet{VNI: v.VNI, Number: s.Number, Prefix: r.Prefix, Gateway: r.Gateway})
		}
	}
	return rows
}
