// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"maps"

	v1 "weft/api/v1"
	"weft/internal/control/overlay"
	"weft/internal/control/port"
	"weft/internal/control/state"
	"weft/internal/southbound"
)

// Ways says which ports of a VPC its route tables lead to: how those stand is in rows that are not of the port alone.
func Ways(tables []*v1.RouteTable) map[string]bool {
	to := make(map[string]bool)
	for _, t := range tables {
		for _, r := range t.Spec.Routes {
			if name, ok := r.Port(); ok {
				to[name] = true
			}
		}
	}
	return to
}

// Step returns how the rows of a VPC change while some of its ports go from one state to another, and all else of it stays. It costs
// what those ports cost, however many there are beside them. No route may lead to them (see Ways).
//
// The ports of r count for nothing. hosts is how many attached ports each node of the VPC has; it is not changed, and returned as it
// is then. With no node left there is no step, nor where from is not what hosts was counted from: the VPC has to be computed whole.
func Step(r Resources, from, to []*v1.Port, hosts map[uint16]int) (_ southbound.Delta, now map[uint16]int, ok bool) {
	before, after := resolveFew(r, from), resolveFew(r, to)
	d := southbound.Delta{Own: make(map[uint16]southbound.Changes)}
	if attached(from) != len(before.Ports) || attached(to) != len(after.Ports) {
		return d, nil, false // at a node that is not there: which rows it had is not known
	}
	now = maps.Clone(hosts)
	for _, p := range before.Ports {
		if now[p.Node]--; now[p.Node] < 0 {
			return d, nil, false
		}
	}
	for _, p := range after.Ports {
		now[p.Node]++
	}
	d.Common = difference(overlay.Rows(before), overlay.Rows(after), now, before.Nodes)
	old, fresh := port.Rows(before), port.Rows(after)
	for n, rows := range old {
		if now[n] > 0 {
			d.Own[n] = difference(rows, fresh[n], nil, nil)
		}
	}
	for n, rows := range fresh {
		if _, done := d.Own[n]; !done {
			d.Own[n] = southbound.Changes{Upserts: rows}
		}
	}
	for n, ports := range now {
		if ports == 0 {
			delete(now, n)
			d.Left = append(d.Left, n)
		}
	}
	return d, now, len(now) > 0
}

func attached(ports []*v1.Port) (n int) {
	for _, p := range ports {
		if p.Status.Node != "" {
			n++
		}
	}
	return n
}

// resolveFew is Resolve for some ports of a VPC.
func resolveFew(r Resources, ports []*v1.Port) state.VPC {
	r.Ports = ports
	return Resolve(r)
}

// difference returns what to put and what to remove. Peers go with the last port of their node: those of the old rows that still
// have one stay.
func difference(old, now []southbound.Row, hosts map[uint16]int, nodes []state.Node) southbound.Changes {
	c := southbound.Changes{Upserts: now}
	keep := make(map[southbound.Key]bool, len(now))
	for _, r := range now {
		keep[r.Key()] = true
	}
	stays := make(map[uint16]bool, len(nodes))
	for _, n := range nodes {
		stays[n.Number] = hosts[n.Number] > 0
	}
	for _, r := range old {
		k := r.Key()
		if k.Table == southbound.TablePeer && stays[k.Node] || keep[k] {
			continue
		}
		keep[k] = true // once
		c.Deletes = append(c.Deletes, k)
	}
	return c
}
