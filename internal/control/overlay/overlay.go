// SPDX-License-Identifier: Apache-2.0

// Package overlay computes the rows that tell a node where the addresses of a VPC live and which nodes may send its
// packets: the same for every node of the VPC.
package overlay

import (
	"weft/internal/control/state"
	"weft/internal/southbound"
)

// Rows returns one row for each node of the VPC and one for each address of its attached ports.
func Rows(v state.VPC) []southbound.Row {
	rows := make([]southbound.Row, 0, len(v.Nodes)+len(v.Ports))
	for _, n := range v.Nodes {
		rows = append(rows, southbound.Peer{VNI: v.VNI, Node: n.Number, Name: n.Name, Address: n.Address})
	}
	for _, p := range v.Ports {
		for _, a := range p.Addresses {
			rows = append(rows, southbound.Location{
				VNI: v.VNI, Address: a, Node: p.Node, MAC: p.MAC, Subnet: v.Subnets[p.Subnet].Number,
			})
		}
	}
	return rows
}
