// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	v1 "weft/api/v1"
	"weft/internal/southbound"
)

var update = flag.Bool("update", false, "write the rows that the stories compare with")

// world is every resource at one moment, by kind, tenant and name.
type world map[string]v1.Object

// vpcs lists what to compute: every VPC with all that refers to it, in no order that means anything.
func (w world) vpcs() []Resources {
	var out []Resources
	for _, o := range w {
		vpc, ok := o.(*v1.VPC)
		if !ok || w["tenant/"+vpc.Tenant] == nil {
			continue
		}
		r := Resources{VPC: vpc, Tenant: w["tenant/"+vpc.Tenant].(*v1.Tenant)}
		for _, o := range w {
			switch o := o.(type) {
			case *v1.Subnet:
				if o.Tenant == vpc.Tenant && o.Spec.VPC == vpc.Name {
					r.Subnets = append(r.Subnets, o)
				}
			case *v1.Port:
				if o.Tenant == vpc.Tenant && o.Status.VPC == vpc.Name {
					r.Ports = append(r.Ports, o)
				}
			case *v1.RouteTable:
				if o.Tenant == vpc.Tenant && o.Spec.VPC == vpc.Name {
					r.RouteTables = append(r.RouteTables, o)
				}
			}
		}
		r.Node = func(name string) *v1.Node {
			n, _ := w["node/"+name].(*v1.Node)
			return n
		}
		out = append(out, r)
	}
	return out
}

// fabric is a hub with the nodes that listen to it, fed one world after the other as a server would.
type fabric struct {
	hub   *southbound.Hub
	known map[uint32]bool // VNIs that have rows
	nodes map[uint16]*node
}

// node holds what it was told.
type node struct {
	epoch    string
	revision uint64
	rows     map[southbound.Key]southbound.Row
}

const nodesMost = 4

func newFabric() *fabric {
	f := &fabric{hub: southbound.NewHub(), known: map[uint32]bool{}, nodes: map[uint16]*node{}}
	for n := uint16(1); n <= nodesMost; n++ {
		f.nodes[n] = &node{rows: map[southbound.Key]southbound.Row{}}
	}
	return f
}

// become moves to a world; each node listens if it feels like it.
func (f *fabric) become(w world, listens func() bool) {
	seen := map[uint32]bool{}
	for _, r := range w.vpcs() {
		rows := Compute(Resolve(r))
		f.hub.Update(r.VPC.Status.VNI, rows.Common, rows.Own)
		seen[r.VPC.Status.VNI] = true
	}
	for vni := range f.known {
		if !seen[vni] {
			f.hub.Update(vni, nil, nil)
		}
	}
	f.known = seen
	for n, node := range f.nodes {
		if listens() {
			node.listen(f.hub, n)
		}
	}
}

func (n *node) listen(hub *southbound.Hub, number uint16) {
	step := hub.Next(number, n.epoch, n.revision)
	if step.Snapshot {
		clear(n.rows)
	}
	for _, k := range step.Deletes {
		delete(n.rows, k)
	}
	for _, r := range step.Upserts {
		n.rows[r.Key()] = r
	}
	n.epoch, n.revision = step.Epoch, step.Revision
}

// text writes what every node holds.
func (f *fabric) text() string {
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(f.nodes)) {
		f.nodes[n].listen(f.hub, n)
		fmt.Fprintf(&b, "node %d\n", n)
		for _, k := range slices.SortedFunc(maps.Keys(f.nodes[n].rows), southbound.Key.Compare) {
			fmt.Fprintf(&b, "  %s\n", f.nodes[n].rows[k])
		}
	}
	return b.String()
}

// recompute is what is right: the rows of a world on nodes that never heard of another.
func recompute(w world) string {
	f := newFabric()
	f.become(w, func() bool { return true })
	return f.text()
}

// steps between two worlds, one resource at a time.
func split(from, to world) []world {
	var out []world
	now := maps.Clone(from)
	if now == nil {
		now = world{}
	}
	for k := range from {
		if _, ok := to[k]; !ok {
			delete(now, k)
			out = append(out, maps.Clone(now))
		}
	}
	for k, o := range to {
		now[k] = o
		out = append(out, maps.Clone(now))
	}
	return out
}

// expand tells one story in every way that must come to the same end.
func expand(states []world) map[string][]world {
	last := states[len(states)-1]
	ways := map[string][]world{"as_told": states, "squashed": {last}}
	for _, w := range states {
		ways["doubled"] = append(ways["doubled"], w, w)
		ways["with_nothing_between"] = append(ways["with_nothing_between"], world{}, w)
	}
	reversed := slices.Clone(states)
	slices.Reverse(reversed)
	ways["reversed"] = append(reversed, last)
	before := world(nil)
	for _, w := range states {
		ways["split"] = append(ways["split"], split(before, w)...)
		before = w
	}
	return ways
}

// TestStories plays testdata/*.txtar: each file is a sequence of worlds (documents with their status) and the rows that
// the nodes hold at the end.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { tell(t, file) })
	}
}

func tell(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	archive := txtar.Parse(data)
	var states []world
	var want *txtar.File
	for i, f := range archive.Files {
		if f.Name == "rows" {
			want = &archive.Files[i]
			continue
		}
		docs, err := v1.DecodeYAML(f.Data)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		w := world{}
		for _, d := range docs {
			w[v1.ID(d)] = d
		}
		states = append(states, w)
	}
	rows := recompute(states[len(states)-1])
	if *update {
		want.Data = []byte(rows)
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(want.Data, []byte(rows)) {
		t.Errorf("rows are\n%s\nwant\n%s", rows, want.Data)
	}
	for way, sequence := range expand(states) {
		for seed := range uint64(20) {
			r := rand.New(rand.NewPCG(seed, 1))
			f := newFabric()
			for _, w := range sequence {
				f.become(w, func() bool { return seed == 0 || r.IntN(3) == 0 })
			}
			if got := f.text(); got != rows {
				t.Fatalf("%s, seed %d: nodes hold\n%s\nwant\n%s", way, seed, got, rows)
			}
		}
	}
}
