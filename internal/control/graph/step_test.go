// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	v1 "weft/api/v1"
	"weft/internal/southbound"
)

// TestStepEqualsRecompute takes the ports of VPCs through random changes, some at a time, in steps wherever there is one. Nodes that
// listen now and then end with the rows of a VPC that was computed whole.
func TestStepEqualsRecompute(t *testing.T) {
	steps := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		for _, res := range random(r).vpcs() {
			steps += stroll(t, r, res, fmt.Sprintf("seed %d, VPC %s/%s", seed, res.VPC.Tenant, res.VPC.Name))
		}
	}
	if steps < 2500 {
		t.Errorf("only %d changes were steps", steps)
	}
}

func stroll(t *testing.T, r *rand.Rand, res Resources, where string) (steps int) {
	vni := res.VPC.Status.VNI
	ports := make(map[string]*v1.Port)
	for _, p := range res.Ports {
		ports[p.Name] = p
	}
	hub, ways := southbound.NewHub(), Ways(res.RouteTables)
	var hosts map[uint16]int
	whole := func() {
		res.Ports = slices.Collect(maps.Values(ports))
		rows := Compute(Resolve(res))
		hub.Update(vni, rows.Common, rows.Own)
		hosts = make(map[uint16]int)
		for n, own := range rows.Own {
			hosts[n] = len(own)
		}
	}
	whole()
	nodes := make(map[uint16]*node)
	for n := uint16(1); n <= nodesMost; n++ {
		nodes[n] = &node{rows: make(map[southbound.Key]southbound.Row)}
	}
	for range 25 {
		from, to, wayed := wander(r, ports, ways)
		res.Ports = []*v1.Port{{Metadata: v1.Metadata{Name: "counts for nothing"}}}
		if d, now, ok := Step(res, from, to, hosts); ok && !wayed && len(hosts) > 0 {
			hub.Change(vni, d)
			hosts = now
			steps++
		} else {
			whole()
		}
		for n, o := range nodes {
			if r.IntN(3) == 0 {
				o.listen(hub, n)
			}
		}
		res.Ports = slices.Collect(maps.Values(ports))
		fresh := southbound.NewHub()
		rows := Compute(Resolve(res))
		fresh.Update(vni, rows.Common, rows.Own)
		for n := range nodes {
			if got, want := text(hub.Rows(n)), text(fresh.Rows(n)); got != want {
				t.Fatalf("%s: node %d should hold\n%s\nnot\n%s", where, n, want, got)
			}
		}
	}
	for n, o := range nodes {
		o.listen(hub, n)
		held := slices.SortedFunc(maps.Values(o.rows), func(a, b southbound.Row) int { return a.Key().Compare(b.Key()) })
		if got, want := text(held), text(hub.Rows(n)); got != want {
			t.Fatalf("%s: node %d holds\n%s\nnot\n%s", where, n, got, want)
		}
	}
	return steps
}

func text(rows []southbound.Row) string {
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

// wander changes some ports: they come, go, are attached, moved and detached, and take addresses that others had a moment before.
// No two have the same address or MAC, as admission has it. wayed tells that a route leads to one of them.
func wander(r *rand.Rand, ports map[string]*v1.Port, ways map[string]bool) (from, to []*v1.Port, wayed bool) {
	some := make(map[string]bool)
	for range 1 + r.IntN(4) {
		some[fmt.Sprint("p", r.IntN(8))] = true
	}
	for name := range some {
		wayed = wayed || ways[name]
		if old := ports[name]; old != nil {
			from = append(from, old)
			delete(ports, name)
		}
	}
	used := make(map[netip.Addr]bool)
	for _, p := range ports {
		for _, a := range p.Status.Addresses {
			used[a] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(some)) {
		if r.IntN(4) == 0 {
			continue // it goes, or is not there
		}
		p := &v1.Port{Metadata: v1.Metadata{Tenant: "t", Name: name}, Spec: v1.PortSpec{Subnet: fmt.Sprint("s", r.IntN(5))}}
		p.Status.MAC = v1.MAC{2, 9, 0, 0, byte(r.IntN(256)), name[1]}
		for _, a := range []netip.Addr{
			netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(4)), byte(4 + r.IntN(8))}), netip.MustParseAddr(fmt.Sprintf("fd00:0:0:%d::%d", r.IntN(4), 4+r.IntN(8))),
		} {
			if !used[a] {
				used[a] = true
				p.Status.Addresses = append(p.Status.Addresses, a)
			}
		}
		if r.IntN(4) > 0 {
			p.Status.Node, p.Status.Binding = fmt.Sprint("n", r.IntN(4)), fmt.Sprint(r.IntN(3))
		}
		ports[name] = p
		to = append(to, p)
	}
	return from, to, wayed
}
