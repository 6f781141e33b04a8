// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"slices"

	"weft/internal/cli/check/attack"
)

// plan lists all that the configuration asks for.
func (r *run) plan() []*work {
	plan := []*work{{name: "reach", tests: r.reach()}, {name: "router", tests: r.router()}, {name: "service", tests: r.service()}}
	for _, g := range attack.Groups() {
		w := &work{name: g.Name, tests: []*test{r.ears()}}
		times := make(map[string]int)
		for _, a := range g.Attacks {
			times[a.Name]++
		}
		for _, a := range g.Attacks {
			for _, v := range versions {
				if a.Versions == nil || slices.Contains(a.Versions, v) {
					w.tests = append(w.tests, r.attack(a, v, a.Versions == nil || times[a.Name] > 1))
				}
			}
		}
		if g.Name == "tunnel" {
			w.tests = append(w.tests, r.forgeries()...)
		}
		plan = append(plan, w)
	}
	plan = append(plan, &work{name: "isolation", tests: r.apart()})
	for _, w := range plan {
		w.tests = slices.DeleteFunc(w.tests, func(t *test) bool {
			t.Group = w.name
			return (len(r.cfg.Groups) > 0 && !slices.Contains(r.cfg.Groups, w.name)) ||
				(r.cfg.Only != nil && !r.cfg.Only.MatchString(w.name+": "+t.Name))
		})
	}
	return slices.DeleteFunc(plan, func(w *work) bool { return len(w.tests) == 0 })
}

// GroupNames lists the groups of cases, in the order in which they run.
func GroupNames() []string {
	names := []string{"reach", "router", "service"}
	for _, g := range attack.Groups() {
		names = append(names, g.Name)
	}
	return append(names, "isolation")
}

// List tells what Run would check on a system with three hosts. It asks nobody.
func List(cfg Config) []Case {
	r := &run{cfg: cfg, nodes: []string{"1", "2", "3"}}
	if !cfg.All {
		r.nodes = r.nodes[:2]
	}
	r.layOut()
	var out []Case
	for _, w := range r.plan() {
		for _, t := range w.tests {
			out = append(out, t.Case)
		}
	}
	return out
}

// attack is the case of one attack: from one workload at all of the other tenant's, or from each at each. Its name says
// which IP version it is of where there is one of the other, too.
func (r *run) attack(at attack.Attack, v int, both bool) *test {
	t := &test{Case: Case{Name: at.Name}}
	if both {
		t.Name += fmt.Sprintf(", IPv%d", v)
	}
	t.make = func() (out []shot, _ []probe) {
		for _, p := range r.pairs() {
			if at.Once && p.to.index != (p.from.index+1)%len(r.sides[p.to.side]) {
				continue
			}
			for _, s := range at.Shots(r.aim(p.from, p.to), v) {
				out = append(out, r.shot(p.from, p.to, s))
			}
		}
		return out, nil
	}
	return t
}

// pair is an attacker and its target.
type pair struct{ from, to *actor }

// pairs lists every pair of workloads of different tenants; without all, those of one attacker.
func (r *run) pairs() []pair {
	var out []pair
	for side := range 2 {
		for _, from := range r.sides[side] {
			if !r.cfg.All && from != r.sides[1][0] {
				continue
			}
			for _, to := range r.sides[1-side] {
				out = append(out, pair{from, to})
			}
		}
	}
	return out
}

// near is the workload of a tenant at the address of another's; nil if it has none there.
func (r *run) near(from, to *actor) *actor {
	if one := r.sides[from.side][to.index]; one.Addr4 == to.Addr4 {
		return one
	}
	return nil
}

// aim is what an attacker knows of its target.
func (r *run) aim(from, to *actor) attack.Aim {
	a := attack.Aim{From: &from.Workload, To: &to.Workload, MTU: r.mtu, FromVNI: r.vni[from.side], ToVNI: r.vni[to.side]}
	if near := r.near(from, to); near != nil {
		a.Near = &near.Workload
	}
	for _, n := range r.nodes {
		if end, err := netip.ParseAddr(r.tunnels[n]); err == nil {
			a.Tunnels = append(a.Tunnels, end)
		}
	}
	return a
}

// shot is one of an attack, between two workloads.
func (r *run) shot(from, to *actor, s attack.Shot) shot {
	out := shot{from: from, path: fmt.Sprintf("%s -> %s", from, to), packets: s.Packets, want: want{reason: s.Reason, least: s.Least}}
	if s.Arrives {
		out.want.to = r.near(from, to)
	}
	return out
}

// ears is the case that makes silence mean something: in each group every workload must hear a plain packet, between the
// others' attacks.
func (r *run) ears() *test {
	t := &test{Case: Case{Name: "every workload hears what is for it"}}
	t.make = func() (out []shot, _ []probe) {
		for _, side := range r.sides {
			for i, from := range side {
				to := side[(i+1)%len(side)]
				for _, v := range versions {
					out = append(out, r.shot(from, to, r.aim(from, to).Good(v)))
				}
			}
		}
		return out, nil
	}
	return t
}
