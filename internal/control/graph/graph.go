// SPDX-License-Identifier: Apache-2.0

// Package graph is the order in which the control functions run, one VPC at a time: resources in, rows for each node
// out. It is pure: the rows depend on the resources as they are now, never on how they came to be so.
package graph

import (
	"slices"

	"weft/internal/control/overlay"
	"weft/internal/control/port"
	"weft/internal/control/routing"
	"weft/internal/control/state"
	"weft/internal/control/vpc"
	"weft/internal/southbound"
)

// Rows is what one VPC means for the nodes that host it.
type Rows struct {
	Common []southbound.Row            // for every node of the VPC
	Own    map[uint16][]southbound.Row // for one node each; the keys are the VPC's nodes
}

// Compute returns the rows of one VPC. A VPC without attached ports concerns no node and has no rows.
func Compute(v state.VPC) Rows {
	if len(v.Nodes) == 0 {
		return Rows{}
	}
	common := slices.Concat(vpc.Rows(v), overlay.Rows(v), routing.Rows(v))
	return Rows{Common: common, Own: port.Rows(v)}
}
