// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	v1 "weft/api/v1"
	"weft/internal/control/graph"
	"weft/internal/southbound"
	"weft/internal/store"
)

// controller turns the store's changes into rows, one VPC at a time:
//
//	store --> changes --> dirty VPCs --> workers: view -> graph -> hub
//
// A VPC that is marked many times while it waits is computed once. One VPC is computed by one worker at a time; VPCs do not
// wait for each other beyond the number of workers.
//
// Where only ports have changed since a VPC was computed, the rows of those ports are, in the state that the changes have
// brought them to (a step); anything else computes it whole, from the newest view.
type controller struct {
	store *store.Store
	hub   *southbound.Hub
	log   *slog.Logger
	rows  func(graph.Resources) graph.Rows // pure

	removed func(*v1.Node) // called when a node was removed
	ready   chan struct{}  // closed once every VPC that there was at the start has its rows; before that, no node may be told what it has

	version atomic.Uint64 // counts computations

	mu      sync.Mutex // guards below
	wake    *sync.Cond // the queue got longer, or closed
	queue   []vpcID
	waiting map[vpcID]*todo  // in the queue
	running map[vpcID]*todo  // being computed; not nil: marked again meanwhile
	done    map[vpcID]done   // the latest computation
	holders map[uint32]vpcID // who has rows under a VNI
	first   map[vpcID]bool   // until ready: what is not computed yet; nil: not begun
	closed  bool
}

// vpcID names a VPC.
type vpcID struct{ tenant, name string }

// done is what the latest computation of a VPC was made of. It is never changed, but replaced.
type done struct {
	revision int64  // that the rows are of
	vni      uint32 // under which the rows stand

	// What steps begin with, as of that revision; hosts is empty where the next computation must be whole.
	base  graph.Resources // without ports
	ways  map[string]bool // ports that routes lead to
	hosts map[uint16]int  // attached ports of each node
}

// todo is why a VPC has to be computed.
type todo struct {
	whole bool
	ports []portChange // in order; else, and no more than stepMost
}

// portChange is one step in the life of a port of the VPC.
type portChange struct {
	revision int64
	old, now *v1.Port // nil: it was, or is, not there
}

// stepMost is how many changes of ports wait for a step; with more, computing the VPC whole costs no more.
const stepMost = 4096

func (t *todo) add(more *todo) *todo {
	if t == nil {
		t = &todo{}
	}
	if t.whole = t.whole || more.whole || len(t.ports)+len(more.ports) > stepMost; t.whole {
		t.ports = nil
		return t
	}
	t.ports = append(t.ports, more.ports...)
	return t
}

const (
	workers = 4         // compute VPCs side by side
	vniMost = 1<<24 - 1 // of VXLAN
)

func newController(st *store.Store, hub *southbound.Hub, log *slog.Logger) *controller {
	c := &controller{
		store: st, hub: hub, log: log, removed: func(*v1.Node) {},
		rows:    func(r graph.Resources) graph.Rows { return graph.Compute(graph.Resolve(r)) },
		waiting: make(map[vpcID]*todo), running: make(map[vpcID]*todo), done: make(map[vpcID]done), holders: make(map[uint32]vpcID),
		ready: make(chan struct{}),
	}
	c.wake = sync.NewCond(&c.mu)
	return c
}

// run follows the store until ctx ends.
func (c *controller) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for range workers {
		wg.Go(c.work)
	}
	defer c.close()
	for ctx.Err() == nil {
		since := c.markAll()
		changes, err := c.store.Differences(ctx, since)
		if err != nil {
			c.log.Error("follow the store", "err", err)
			continue
		}
		for batch := range changes { // ends with ctx, or when we lag: then all is marked again
			for _, e := range batch {
				c.take(e)
			}
		}
	}
}

// markAll marks every VPC there is or was and returns the revision from which to follow.
func (c *controller) markAll() int64 {
	view := c.store.View()
	vpcs := view.List(v1.KindVPC, "")
	c.begin(vpcs)
	for _, o := range vpcs {
		c.mark(vpcID{o.Meta().Tenant, o.Meta().Name})
	}
	c.mu.Lock()
	known := make([]vpcID, 0, len(c.done))
	for id := range c.done {
		known = append(known, id)
	}
	c.mu.Unlock()
	for _, id := range known {
		c.mark(id)
	}
	return view.Revision()
}

// begin notes, once, what has to be computed before nodes may be told anything.
func (c *controller) begin(vpcs []v1.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first != nil {
		return
	}
	c.first = make(map[vpcID]bool, len(vpcs))
	for _, o := range vpcs {
		c.first[vpcID{o.Meta().Tenant, o.Meta().Name}] = true
	}
	if len(c.first) == 0 {
		close(c.ready)
	}
}

// hasComputedLocked notes that a VPC was computed. The caller holds mu.
func (c *controller) hasComputedLocked(id vpcID) {
	if !c.first[id] {
		return
	}
	if delete(c.first, id); len(c.first) == 0 {
		close(c.ready)
	}
}

// take marks the VPCs that an event concerns.
func (c *controller) take(e store.Event) {
	if c.takePort(e) {
		return
	}
	for _, o := range []v1.Object{e.Old, e.Object} {
		switch o := o.(type) {
		case *v1.VPC:
			c.mark(vpcID{o.Tenant, o.Name})
		case *v1.Subnet:
			c.mark(vpcID{o.Tenant, o.Spec.VPC})
		case *v1.RouteTable:
			c.mark(vpcID{o.Tenant, o.Spec.VPC})
		case *v1.Node:
			c.takeNode(e, o)
			return
		}
	}
}

// takePort marks the VPC of a port, for a step; it reports whether the event is of one.
func (c *controller) takePort(e store.Event) bool {
	old, was := e.Old.(*v1.Port)
	now, is := e.Object.(*v1.Port)
	switch {
	case was && is && old.Status.VPC != now.Status.VPC:
		c.markFor(vpcID{old.Tenant, old.Status.VPC}, &todo{ports: []portChange{{e.Revision, old, nil}}})
		c.markFor(vpcID{now.Tenant, now.Status.VPC}, &todo{ports: []portChange{{e.Revision, nil, now}}})
	case is:
		c.markFor(vpcID{now.Tenant, now.Status.VPC}, &todo{ports: []portChange{{e.Revision, old, now}}})
	case was:
		c.markFor(vpcID{old.Tenant, old.Status.VPC}, &todo{ports: []portChange{{e.Revision, old, nil}}})
	}
	return was || is
}

// takeNode marks the VPCs with ports on a node whose address or number changed.
func (c *controller) takeNode(e store.Event, n *v1.Node) {
	if e.Object == nil {
		c.removed(n)
	}
	old, ok1 := e.Old.(*v1.Node)
	now, ok2 := e.Object.(*v1.Node)
	if ok1 && ok2 && old != nil && now != nil && old.Spec.Address == now.Spec.Address && old.Status.Number == now.Status.Number {
		return
	}
	for _, o := range c.store.View().List(v1.KindPort, "") {
		if p := o.(*v1.Port); p.Status.Node == n.Name {
			c.mark(vpcID{p.Tenant, p.Status.VPC})
		}
	}
}

// mark queues a VPC to be computed whole.
func (c *controller) mark(id vpcID) { c.markFor(id, &todo{whole: true}) }

// markFor queues a VPC unless it waits already, and notes why.
func (c *controller) markFor(id vpcID, why *todo) {
	if id.name == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if again, busy := c.running[id]; busy {
		c.running[id] = again.add(why)
		return
	}
	if c.waiting[id] == nil {
		c.queue = append(c.queue, id)
		c.wake.Signal()
	}
	c.waiting[id] = c.waiting[id].add(why)
}

func (c *controller) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.wake.Broadcast()
}

// work computes VPCs until the controller is closed.
func (c *controller) work() {
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.closed {
			c.wake.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return
		}
		id := c.queue[0]
		c.queue = c.queue[1:]
		why := c.waiting[id]
		delete(c.waiting, id)
		c.running[id] = nil
		last := c.done[id]
		c.mu.Unlock()

		now := c.compute(id, last, why)

		c.mu.Lock()
		if now.vni == 0 {
			delete(c.done, id)
		} else {
			c.done[id] = now
		}
		c.version.Add(1)
		c.hasComputedLocked(id)
		again := c.running[id]
		delete(c.running, id)
		c.mu.Unlock()
		if again != nil {
			c.markFor(id, again)
		}
	}
}

// compute brings the hub's rows of one VPC up to date. Where that cannot be, its rows stay as they were and its status says
// that they wait; the other VPCs go on.
func (c *controller) compute(id vpcID, last done, why *todo) (now done) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("rows of a VPC cannot be computed", "tenant", id.tenant, "vpc", id.name, "panic", p, "stack", string(debug.Stack()))
			now = done{revision: last.revision, vni: last.vni}
		}
	}()
	if now, ok := c.step(last, why); ok {
		return now
	}
	return c.whole(id, last)
}

// step computes the rows of the ports that have changed since the latest computation; ok is false where that is not enough.
func (c *controller) step(last done, why *todo) (now done, ok bool) {
	if why.whole || len(last.hosts) == 0 {
		return last, false
	}
	now = last
	first, latest := make(map[string]*v1.Port), make(map[string]*v1.Port)
	for _, p := range why.ports {
		if p.revision <= last.revision {
			continue // the view was ahead
		}
		now.revision = p.revision
		name := cmp.Or(p.now, p.old).Name
		if last.ways[name] {
			return last, false
		}
		if _, again := first[name]; !again {
			first[name] = p.old
		}
		latest[name] = p.now
	}
	delta, hosts, ok := graph.Step(last.base, present(first), present(latest), last.hosts)
	if !ok {
		return last, false
	}
	c.hub.Change(last.vni, delta)
	now.hosts = hosts
	return now, true
}

// present lists the ports that are there.
func present(ports map[string]*v1.Port) (out []*v1.Port) {
	for _, p := range ports {
		if p != nil {
			out = append(out, p)
		}
	}
	return out
}

// whole makes the hub's rows of one VPC what the newest view says.
func (c *controller) whole(id vpcID, last done) done {
	view := c.store.View()
	res, ok := gather(view, id)
	if last.vni != 0 && (!ok || res.VPC.Status.VNI != last.vni) {
		c.hub.Update(last.vni, nil, nil)
		c.free(last.vni)
	}
	if !ok {
		return done{}
	}
	vni := res.VPC.Status.VNI
	if holder, free := c.hold(vni, id); !free {
		c.log.Error("VNI of a VPC cannot be used", "tenant", id.tenant, "vpc", id.name, "vni", vni, "holder", holder.tenant+"/"+holder.name)
		return done{}
	}
	rows := c.rows(res)
	c.hub.Update(vni, rows.Common, rows.Own)
	now := done{revision: view.Revision(), vni: vni, base: res, ways: graph.Ways(res.RouteTables), hosts: make(map[uint16]int, len(rows.Own))}
	now.base.Ports = nil
	now.base.Node = func(name string) *v1.Node { return nodeNamed(c.store.View(), name) }
	for n, ports := range rows.Own {
		now.hosts[n] = len(ports)
	}
	return now
}

func nodeNamed(view *store.View, name string) *v1.Node {
	if n, ok := view.Get(v1.KindNode, "", name); ok {
		return n.(*v1.Node)
	}
	return nil
}

// hold gives the rows under a VNI to one VPC; while it has them, no other can mix its own with them.
func (c *controller) hold(vni uint32, id vpcID) (holder vpcID, free bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	holder, taken := c.holders[vni]
	if vni == 0 || vni > vniMost || (taken && holder != id) {
		return holder, false
	}
	c.holders[vni] = id
	return id, true
}

func (c *controller) free(vni uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.holders, vni)
}

// computed returns the revision that the VPC's rows were computed from, and the VNI under which they stand.
func (c *controller) computed(id vpcID) (revision int64, vni uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.done[id]
	return d.revision, d.vni
}

// gather collects a VPC and all that refers to it; ok is false where it does not exist.
func gather(view *store.View, id vpcID) (res graph.Resources, ok bool) {
	vpc, ok1 := view.Get(v1.KindVPC, id.tenant, id.name)
	tenant, ok2 := view.Get(v1.KindTenant, "", id.tenant)
	if !ok1 || !ok2 {
		return res, false
	}
	res.VPC, res.Tenant = vpc.(*v1.VPC), tenant.(*v1.Tenant)
	for _, o := range view.List(v1.KindSubnet, id.tenant) {
		if s := o.(*v1.Subnet); s.Spec.VPC == id.name {
			res.Subnets = append(res.Subnets, s)
		}
	}
	for _, o := range view.List(v1.KindRouteTable, id.tenant) {
		if t := o.(*v1.RouteTable); t.Spec.VPC == id.name {
			res.RouteTables = append(res.RouteTables, t)
		}
	}
	for _, o := range view.List(v1.KindPort, id.tenant) {
		if p := o.(*v1.Port); p.Status.VPC == id.name {
			res.Ports = append(res.Ports, p)
		}
	}
	res.Node = func(name string) *v1.Node { return nodeNamed(view, name) }
	return res, true
}
