// SPDX-License-Identifier: Apache-2.0

package southbound

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func location(vni uint32, last byte, node uint16) Location {
	return Location{VNI: vni, Address: netip.AddrFrom4([4]byte{10, 0, 0, last}), Node: node, Subnet: 1}
}

func portRow(vni uint32, name string) Port { return Port{VNI: vni, Tenant: "red", Name: name} }

// replica is what a node holds: it applies steps as an agent does.
type replica struct {
	epoch    string
	revision uint64
	rows     map[Key]Row
}

func (r *replica) take(t *testing.T, s Step) {
	t.Helper()
	if s.Snapshot {
		r.rows = make(map[Key]Row)
	}
	for _, k := range s.Deletes {
		delete(r.rows, k)
	}
	for _, row := range s.Upserts {
		r.rows[row.Key()] = row
	}
	if !slices.IsSortedFunc(s.Upserts, func(a, b Row) int { return a.Key().Compare(b.Key()) }) {
		t.Error("upserts do not ascend")
	}
	if !slices.IsSortedFunc(s.Deletes, func(a, b Key) int { return b.Compare(a) }) {
		t.Error("deletes do not descend")
	}
	r.epoch, r.revision = s.Epoch, s.Revision
}

func (r *replica) text() []string {
	var out []string
	for _, row := range r.rows {
		out = append(out, row.String())
	}
	slices.Sort(out)
	return out
}

func TestStepsGoOnlyToNodesOfTheVPC(t *testing.T) {
	h := NewHub()
	h.Update(4096, []Row{VPC{VNI: 4096}}, map[uint16][]Row{1: {portRow(4096, "a")}})
	h.Update(4097, []Row{VPC{VNI: 4097}}, map[uint16][]Row{2: {portRow(4097, "b")}})
	var n1, n2 replica
	n1.take(t, h.Next(1, "", 0))
	n2.take(t, h.Next(2, "", 0))
	sent := h.Node(2).Sent
	for i := range byte(100) {
		h.Update(4096, []Row{VPC{VNI: 4096}, location(4096, i, 1)}, map[uint16][]Row{1: {portRow(4096, "a")}})
		n1.take(t, h.Next(1, n1.epoch, n1.revision))
		n2.take(t, h.Next(2, n2.epoch, n2.revision))
	}
	if got := h.Node(2).Sent; got != sent {
		t.Errorf("node 2 was sent %d rows for changes of a VPC that it does not host", got-sent)
	}
	select {
	case <-h.Wake(2):
		<-h.Wake(1)
		select {
		case <-h.Wake(2):
			t.Error("node 2 was woken more than once")
		default:
		}
	default:
		t.Error("node 2 was never woken, not even for its own VPC")
	}
}

func TestLeavingNodeForgetsTheVPC(t *testing.T) {
	h := NewHub()
	common := []Row{VPC{VNI: 4096}, location(4096, 4, 1)}
	h.Update(4096, common, map[uint16][]Row{1: {portRow(4096, "a")}, 2: nil})
	var n replica
	n.take(t, h.Next(1, "", 0))
	h.Update(4096, common, map[uint16][]Row{2: {portRow(4096, "a")}})
	step := h.Next(1, n.epoch, n.revision)
	if step.Snapshot {
		t.Error("a leave was told by a snapshot")
	}
	n.take(t, step)
	if len(n.rows) != 0 {
		t.Errorf("node 1 keeps %v", n.text())
	}
}

func TestNodeIsOutOfSyncUntilItForgot(t *testing.T) {
	h := NewHub()
	h.Update(4096, []Row{VPC{VNI: 4096}}, map[uint16][]Row{1: nil, 2: nil})
	s := h.Next(1, "", 0)
	h.Ack(1, s.Epoch, s.Revision, nil)
	h.Update(4096, []Row{VPC{VNI: 4096}}, map[uint16][]Row{2: nil})
	if h.Node(1).InSync {
		t.Error("a node that still holds a VPC which it no longer hosts counts as in sync")
	}
	s = h.Next(1, s.Epoch, s.Revision)
	h.Ack(1, s.Epoch, s.Revision, nil)
	if !h.Node(1).InSync {
		t.Error("a node that forgot the VPC is not in sync")
	}
}

func TestOtherEpochGetsSnapshot(t *testing.T) {
	h := NewHub()
	h.Update(4096, []Row{VPC{VNI: 4096}}, map[uint16][]Row{1: nil})
	for _, epoch := range []string{"", "another"} {
		if s := h.Next(1, epoch, 1); !s.Snapshot || len(s.Upserts) != 1 {
			t.Errorf("epoch %q: step %+v, want a snapshot of one row", epoch, s)
		}
	}
	if s := h.Next(1, h.epoch, 1000); !s.Snapshot {
		t.Error("a revision from the future was believed")
	}
}

func TestAppliedCountsAcknowledgements(t *testing.T) {
	h := NewHub()
	update := func(last byte) {
		h.Update(4096, []Row{VPC{VNI: 4096}, location(4096, last, 1)}, map[uint16][]Row{1: nil, 2: nil})
	}
	update(1)
	want := func(nodes, applied int, waiting ...uint16) {
		t.Helper()
		n, a, w := h.Applied(4096)
		if n != nodes || a != applied || !slices.Equal(w, waiting) {
			t.Errorf("applied on %d of %d, waiting %v; want %d of %d, %v", a, n, w, applied, nodes, waiting)
		}
	}
	want(2, 0, 1, 2)
	s := h.Next(1, "", 0)
	h.Ack(1, s.Epoch, s.Revision, nil)
	want(2, 1, 2)
	h.Ack(2, "another epoch", s.Revision, nil)
	want(2, 1, 2)
	h.Ack(2, s.Epoch, s.Revision, []Failure{{VNI: 4096, Key: "x", Message: "no room"}})
	want(2, 1, 2)
	h.Ack(2, s.Epoch, s.Revision, nil)
	want(2, 2)
	update(2)
	want(2, 0, 1, 2)
	if n, a, w := h.Applied(9); n != 0 || a != 0 || w != nil {
		t.Error("a VPC that is not there concerns nodes")
	}
}

// TestAnyWayOfListeningEndsAtTheSame runs random histories of three VPCs over four nodes. Each node listens in its own
// way (every step, now and then, with reconnects, with a lost step) and must end with what a fresh node gets.
func TestAnyWayOfListeningEndsAtTheSame(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 7))
		h := NewHub()
		nodes := map[uint16]*replica{}
		for n := uint16(1); n <= 4; n++ {
			nodes[n] = &replica{rows: map[Key]Row{}}
		}
		for range 60 {
			vni := uint32(4096 + r.IntN(3))
			common := []Row{}
			own := map[uint16][]Row{}
			for n := uint16(1); n <= 4; n++ {
				if r.IntN(3) > 0 {
					own[n] = []Row{portRow(vni, fmt.Sprint("p", r.IntN(3)))}
				}
			}
			for i := range byte(r.IntN(6)) {
				common = append(common, location(vni, i, uint16(r.IntN(4))))
			}
			if len(own) == 0 {
				common = nil
			}
			h.Update(vni, common, own)
			for n, rep := range nodes {
				switch {
				case n == 1, r.IntN(4) == 0:
					rep.take(t, h.Next(n, rep.epoch, rep.revision))
				case n == 3 && r.IntN(10) == 0:
					rep.epoch = "" // restarted without memory
				case n == 4 && r.IntN(5) == 0:
					h.Next(n, rep.epoch, rep.revision) // a step that never arrived
				}
			}
		}
		for n, rep := range nodes {
			rep.take(t, h.Next(n, rep.epoch, rep.revision))
			fresh := &replica{}
			fresh.take(t, h.Next(n, "", 0))
			if !maps.EqualFunc(rep.rows, fresh.rows, Row.Equal) {
				t.Fatalf("seed %d, node %d:\n has  %v\n want %v", seed, n, rep.text(), fresh.text())
			}
		}
	}
}

func TestTrimmedLogLeadsToSnapshot(t *testing.T) {
	h := NewHub()
	own := map[uint16][]Row{1: nil}
	h.Update(4096, nil, own)
	s := h.Next(1, "", 0)
	for i := range 20000 {
		h.Update(4096, []Row{location(4096, byte(i%2), uint16(i))}, own)
	}
	if n := len(h.scopes[4096].common.log); n > 5000 {
		t.Errorf("the log of a table of one row has %d entries", n)
	}
	if late := h.Next(1, s.Epoch, s.Revision); !late.Snapshot || len(late.Upserts) != 1 {
		t.Errorf("a node that is 20000 changes behind got %d rows, snapshot %v", len(late.Upserts), late.Snapshot)
	}
}
