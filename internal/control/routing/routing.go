// SPDX-License-Identifier: Apache-2.0

// Package routing computes the rows of route tables: the same for every node of the VPC, because every node routes.
package routing

import (
	"weft/internal/control/state"
	"weft/internal/southbound"
)

// Rows returns one row for each route of each table that a subnet of the VPC has.
func Rows(v state.VPC) []southbound.Row {
	var rows []southbound.Row
	for _, t := range v.RouteTables {
		for _, r := range t.Routes {
			row := southbound.Route{VNI: v.VNI, Table: t.Number, Prefix: r.Prefix, Via: southbound.RouteBlackhole}
			if !r.Blackhole {
				row.Via, row.Node, row.MAC = southbound.RoutePort, r.Node, r.MAC
			}
			rows = append(rows, row)
		}
	}
	return rows
}
