// SPDX-License-Identifier: Apache-2.0

package southbound

import (
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Hub holds the rows of every VPC and hands each node what changed since the node last heard. A VPC's common rows are
// kept once, however many nodes host it.
//
// Revisions count the hub's changes. They mean something only within one epoch, the life of one hub: a node that comes
// with another epoch gets a snapshot.
type Hub struct {
	epoch string

	mu     sync.Mutex // guards all below
	rev    uint64
	acks   uint64
	scopes map[uint32]*scope // by VNI
	nodes  map[uint16]*hubNode
}

// scope is the rows of one VPC.
type scope struct {
	common *feed
	own    map[uint16]*feed // by node; its keys are the nodes that host the VPC
}

// hubNode is what the hub knows of one node.
type hubNode struct {
	joined   map[uint32]uint64 // VNI: revision at which the node began to host it
	left     *feed             // deletes of the VPCs that the node no longer hosts
	acked    uint64            // the node has put all up to here into effect
	failures []Failure         // except these
	wake     chan struct{}     // room for one: something changed
	sent     uint64            // rows and deletes handed out, for tests and metrics
}

// Failure is a row that a node could not put into effect.
type Failure struct {
	VNI     uint32 // 0: it concerns every VPC of the node, or with NodeFailure none
	Key     string
	Message string
}

// NodeFailure is the key of what is wrong with the node itself while all rows are in effect.
const NodeFailure = "node"

// Step is what a node has to change. Upserts ascend by key, so what a row leans on comes before it; deletes descend.
type Step struct {
	Epoch    string
	Revision uint64
	Snapshot bool // the upserts are all there is: what is not among them is to be pruned
	Upserts  []Row
	Deletes  []Key

	bad    []refused // rows that the node could not read
	forget []refused // deletes of such rows
}

// NewHub returns an empty hub with an epoch of its own.
func NewHub() *Hub {
	return &Hub{epoch: uuid.NewString(), scopes: make(map[uint32]*scope), nodes: make(map[uint16]*hubNode)}
}

// Update makes the rows of one VPC what they are now: common for each of its nodes, own for each node by itself. The
// keys of own are the nodes that host the VPC; with none the VPC is forgotten. It reports whether anything changed.
func (h *Hub) Update(vni uint32, common []Row, own map[uint16][]Row) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.scopes[vni]
	if !ok {
		if len(own) == 0 {
			return false
		}
		s = &scope{common: newFeed(), own: make(map[uint16]*feed)}
		h.scopes[vni] = s
	}
	rev := h.rev + 1
	changed := h.leave(vni, s, own, rev) // before the common rows change: the leaving node must forget the old ones
	all := s.common.replace(common, rev)
	changed = changed || all
	for n, rows := range own {
		mine := h.join(vni, s, n, rev)
		mine = s.own[n].replace(rows, rev) || mine
		if mine || all {
			h.node(n).signal()
		}
		changed = changed || mine
	}
	if len(s.own) == 0 {
		delete(h.scopes, vni)
	}
	if changed {
		h.rev = rev
	}
	return changed
}

// Delta is how the rows of one VPC change while most of them stay as they are.
type Delta struct {
	Common Changes            // for every node of the VPC
	Own    map[uint16]Changes // for one node each, which hosts the VPC then, whether it did before or not
	Left   []uint16           // nodes that host the VPC no more
}

// Changes are rows that come, or take the place of others, and rows that go.
type Changes struct {
	Upserts []Row
	Deletes []Key
}

// Change is Update where only the difference is known. It reports whether anything changed. The VPC must have rows.
func (h *Hub) Change(vni uint32, d Delta) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.scopes[vni]
	if !ok {
		return false
	}
	rev := h.rev + 1
	changed := false
	for _, n := range d.Left { // before the common rows change, as in Update
		if f, ok := s.own[n]; ok {
			h.part(vni, s, n, f, rev)
			changed = true
		}
	}
	all := s.common.change(d.Common, rev)
	changed = changed || all
	for n, own := range d.Own {
		mine := h.join(vni, s, n, rev)
		mine = s.own[n].change(own, rev) || mine
		if mine {
			h.node(n).signal()
		}
		changed = changed || mine
	}
	if all {
		for n := range s.own {
			h.node(n).signal()
		}
	}
	if changed {
		h.rev = rev
	}
	return changed
}

// join makes node n one that hosts the VPC. It reports whether it was not before.
func (h *Hub) join(vni uint32, s *scope, n uint16, rev uint64) bool {
	if _, ok := s.own[n]; ok {
		return false
	}
	s.own[n] = newFeed()
	h.node(n).joined[vni] = rev
	return true
}

// leave takes the VPC from the nodes that are not in own.
func (h *Hub) leave(vni uint32, s *scope, own map[uint16][]Row, rev uint64) bool {
	changed := false
	for n, f := range s.own {
		if _, ok := own[n]; ok {
			continue
		}
		h.part(vni, s, n, f, rev)
		changed = true
	}
	return changed
}

// part takes the VPC from node n, whose own rows are f.
func (h *Hub) part(vni uint32, s *scope, n uint16, f *feed, rev uint64) {
	node := h.node(n)
	for _, f := range []*feed{f, s.common} {
		node.left.absorb(f, rev)
	}
	node.left.trim()
	delete(s.own, n)
	delete(node.joined, vni)
	node.signal()
}

// node returns the entry of node n, made if need be.
func (h *Hub) node(n uint16) *hubNode {
	e, ok := h.nodes[n]
	if !ok {
		e = &hubNode{joined: make(map[uint32]uint64), left: newFeed(), wake: make(chan struct{}, 1)}
		h.nodes[n] = e
	}
	return e
}

func (n *hubNode) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Next returns what node n has to change after revision since of the given epoch. If the hub cannot tell any more, the
// step is a snapshot.
func (h *Hub) Next(n uint16, epoch string, since uint64) Step {
	h.mu.Lock()
	defer h.mu.Unlock()
	node := h.node(n)
	step, ok := Step{}, false
	if epoch == h.epoch && since <= h.rev {
		step, ok = h.delta(n, node, since)
	}
	if !ok {
		step = h.snapshot(n, node)
	}
	step.Epoch, step.Revision = h.epoch, h.rev
	slices.SortFunc(step.Upserts, func(a, b Row) int { return a.Key().Compare(b.Key()) })
	slices.SortFunc(step.Deletes, func(a, b Key) int { return b.Compare(a) })
	node.sent += uint64(len(step.Upserts) + len(step.Deletes))
	return step
}

func (h *Hub) snapshot(n uint16, node *hubNode) Step {
	step := Step{Snapshot: true}
	for vni := range node.joined {
		s := h.scopes[vni]
		for _, f := range []*feed{s.common, s.own[n]} {
			for _, r := range f.rows {
				step.Upserts = append(step.Upserts, r.row)
			}
		}
	}
	return step
}

// delta joins the logs that concern the node; of several changes of one key the last one counts.
func (h *Hub) delta(n uint16, node *hubNode, since uint64) (Step, bool) {
	latest := make(map[Key]Row)
	left, ok := node.left.since(since)
	if !ok {
		return Step{}, false
	}
	for _, c := range left {
		latest[c.key] = nil
	}
	for vni, joined := range node.joined {
		s := h.scopes[vni]
		for _, f := range []*feed{s.common, s.own[n]} {
			if joined > since {
				for k, r := range f.rows {
					latest[k] = r.row
				}
				continue
			}
			changes, ok := f.since(since)
			if !ok {
				return Step{}, false
			}
			for _, c := range changes {
				latest[c.key] = c.row
			}
		}
	}
	var step Step
	for k, r := range latest {
		if r == nil {
			step.Deletes = append(step.Deletes, k)
		} else {
			step.Upserts = append(step.Upserts, r)
		}
	}
	return step, true
}

// Rows returns all rows that node n should hold, in the order of their keys.
func (h *Hub) Rows(n uint16) []Row {
	h.mu.Lock()
	step := h.snapshot(n, h.node(n))
	h.mu.Unlock()
	slices.SortFunc(step.Upserts, func(a, b Row) int { return a.Key().Compare(b.Key()) })
	return step.Upserts
}

// Wake returns a channel that receives when Next has something new for node n.
func (h *Hub) Wake(n uint16) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.node(n).wake
}

// Signal has whoever waits for node n look again.
func (h *Hub) Signal(n uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.node(n).signal()
}

// Ack notes that node n has put everything up to revision of the epoch into effect, except failures.
func (h *Hub) Ack(n uint16, epoch string, revision uint64, failures []Failure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acks++
	if node := h.node(n); epoch == h.epoch && revision >= node.acked {
		node.acked, node.failures = revision, failures
	}
}

// Version changes with every change of rows and every acknowledgement.
func (h *Hub) Version() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rev + h.acks
}

// Applied counts the nodes that host the VPC and those of them on which its present rows are in effect, and names the rest.
func (h *Hub) Applied(vni uint32) (nodes, applied int, waiting []uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.scopes[vni]
	if !ok {
		return 0, 0, nil
	}
	for n, own := range s.own {
		node := h.node(n)
		need := max(s.common.last, own.last, node.joined[vni])
		failed := slices.ContainsFunc(node.failures, func(f Failure) bool { return f.VNI == vni || f.VNI == 0 && f.Key != NodeFailure })
		if node.acked >= need && !failed {
			applied++
		} else {
			waiting = append(waiting, n)
		}
	}
	slices.Sort(waiting)
	return len(s.own), applied, waiting
}

// NodeState is what the hub can say of one node.
type NodeState struct {
	Rows     int    // rows the node should hold
	Sent     uint64 // rows and deletes handed out to the node so far
	InSync   bool   // the node has acknowledged everything that concerns it
	Failures []Failure
}

// Node tells how node n stands.
func (h *Hub) Node(n uint16) NodeState {
	h.mu.Lock()
	defer h.mu.Unlock()
	node := h.node(n)
	st := NodeState{Sent: node.sent, Failures: slices.Clone(node.failures)}
	need := node.left.last
	for vni, joined := range node.joined {
		s := h.scopes[vni]
		st.Rows += len(s.common.rows) + len(s.own[n].rows)
		need = max(need, joined, s.common.last, s.own[n].last)
	}
	st.InSync = node.acked >= need
	return st
}

// Forget drops what the hub knows of node n; the node must host nothing any more.
func (h *Hub) Forget(n uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if node, ok := h.nodes[n]; ok && len(node.joined) == 0 {
		delete(h.nodes, n)
	}
}

// timeouts of the stream.
const (
	heartbeatEvery = time.Second
	goneAfter      = 2500 * time.Millisecond
)
