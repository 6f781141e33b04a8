// SPDX-License-Identifier: Apache-2.0

// Package routing keeps, on one node, the route tables of its VPCs and what ports may send from beside their own
// addresses.
package routing

import (
	"errors"
	"net/netip"

	"weft/internal/node/kernel"
	"weft/internal/node/reconcile"
	"weft/internal/southbound"
)

// Config is what a Routing needs.
type Config struct {
	Node    string // name of this node, as peers' rows have it
	Routes  reconcile.Target[kernel.RouteKey, kernel.Location]
	Sources reconcile.Target[kernel.SourceKey, kernel.Source]
	Drift   func(what string) // told of entries that somebody else has changed; nil: nobody
}

// Routing turns rows of the tables Subnet, Peer, Port and Route into entries of the packet path. It belongs to one
// goroutine.
type Routing struct {
	cfg     Config
	routes  *reconcile.Table[kernel.RouteKey, kernel.Location]
	sources *reconcile.Table[kernel.SourceKey, kernel.Source]
	nets    map[uint32]*network
	devices map[uint32]map[netip.Addr]device // by VNI and address of the port
	changed map[uint32]bool                  // VNIs whose entries have to be computed again
}

// device is where a local port is reached.
type device struct {
	ifindex uint32
	kind    kernel.LocationKind
}

// network is the rows of one VPC, and the entries that were last made of them.
type network struct {
	subnets map[southbound.Key]southbound.Subnet
	peers   map[uint16]southbound.Peer
	ports   map[southbound.Key]southbound.Port
	routes  map[southbound.Key]southbound.Route
	made    map[kernel.RouteKey]kernel.Location
	allowed map[kernel.SourceKey]kernel.Source
}

// New returns a Routing that wants nothing.
func New(cfg Config) *Routing {
	r := &Routing{
		cfg:     cfg,
		routes:  reconcile.New("routes", cfg.Routes),
		sources: reconcile.New("sources", cfg.Sources),
		nets:    make(map[uint32]*network),
		devices: make(map[uint32]map[netip.Addr]device),
		changed: make(map[uint32]bool),
	}
	r.routes.Tell(cfg.Drift)
	r.sources.Tell(cfg.Drift)
	return r
}

// Reset forgets all rows, as at the beginning of a snapshot. The kernel is not touched before Apply.
func (r *Routing) Reset() {
	clear(r.nets)
	r.routes.Reset()
	r.sources.Reset()
}

// Update takes a row; those of other tables are passed over.
func (r *Routing) Update(row southbound.Row) {
	key := row.Key()
	switch row := row.(type) {
	case southbound.Subnet:
		r.net(key.VNI).subnets[key] = row
	case southbound.Peer:
		r.net(key.VNI).peers[key.Node] = row
	case southbound.Port:
		r.net(key.VNI).ports[key] = row
	case southbound.Route:
		r.net(key.VNI).routes[key] = row
	}
}

// Delete forgets a row by its key; one that is not there is fine.
func (r *Routing) Delete(key southbound.Key) {
	if _, ok := r.nets[key.VNI]; !ok {
		return
	}
	n := r.net(key.VNI)
	delete(n.subnets, key)
	delete(n.ports, key)
	delete(n.routes, key)
	if key.Table == southbound.TablePeer {
		delete(n.peers, key.Node)
	}
}

// net returns the rows of a VPC for a change.
func (r *Routing) net(vni uint32) *network {
	n, ok := r.nets[vni]
	if !ok {
		n = &network{
			subnets: make(map[southbound.Key]southbound.Subnet),
			peers:   make(map[uint16]southbound.Peer),
			ports:   make(map[southbound.Key]southbound.Port),
			routes:  make(map[southbound.Key]southbound.Route),
		}
		r.nets[vni] = n
	}
	r.changed[vni] = true
	return n
}

// SetDevice says at which device of this node an address of a port is reached; ok false: at none.
func (r *Routing) SetDevice(vni uint32, addr netip.Addr, ifindex uint32, kind kernel.LocationKind, ok bool) {
	if r.devices[vni] == nil {
		r.devices[vni] = make(map[netip.Addr]device)
	}
	if ok {
		r.devices[vni][addr] = device{ifindex, kind}
	} else {
		delete(r.devices[vni], addr)
	}
	if _, known := r.nets[vni]; known {
		r.changed[vni] = true
	}
}

// Rescan makes the next Apply find drift.
func (r *Routing) Rescan() {
	r.routes.Rescan()
	r.sources.Rescan()
}

// Apply writes what differs.
func (r *Routing) Apply() error {
	for vni := range r.changed {
		r.compute(vni)
	}
	clear(r.changed)
	return errors.Join(r.sources.Apply(), r.routes.Apply())
}

// compute makes the entries of one VPC anew and wants what is different.
func (r *Routing) compute(vni uint32) {
	n, ok := r.nets[vni]
	if !ok {
		return
	}
	made, allowed := r.tables(vni, n), r.allowed(vni, n)
	replace(r.routes, n.made, made)
	replace(r.sources, n.allowed, allowed)
	n.made, n.allowed = made, allowed
	if len(n.subnets)+len(n.peers)+len(n.ports)+len(n.routes) == 0 {
		delete(r.nets, vni)
	}
}

// replace wants next where before was wanted.
func replace[K, V comparable](t *reconcile.Table[K, V], before, next map[K]V) {
	for k := range before {
		if _, stays := next[k]; !stays {
			t.Delete(k)
		}
	}
	for k, v := range next {
		t.Update(k, v)
	}
}

// tables makes the route tables of a VPC. In each, the subnets and the router's addresses are prefixes like others, and a
// route of the same prefix takes their place.
func (r *Routing) tables(vni uint32, n *network) map[kernel.RouteKey]kernel.Location {
	made := make(map[kernel.RouteKey]kernel.Location)
	filled := make(map[uint32]bool)
	for _, route := range n.routes {
		if filled[route.Table] {
			continue
		}
		filled[route.Table] = true
		for _, s := range n.subnets {
			connected := kernel.Location{Kind: kernel.LocationConnected, Subnet: s.Number}
			made[kernel.RouteKey{VNI: vni, Table: route.Table, Prefix: s.Prefix}] = connected
			if s.Gateway.IsValid() {
				made[kernel.RouteKey{VNI: vni, Table: route.Table, Prefix: netip.PrefixFrom(s.Gateway, s.Gateway.BitLen())}] = connected
			}
		}
	}
	for _, route := range n.routes {
		made[kernel.RouteKey{VNI: vni, Table: route.Table, Prefix: route.Prefix}] = r.nextHop(vni, n, route)
	}
	return made
}

// nextHop is where a route leads. A port that is nowhere, or not in place here yet, is unreachable: a wider route must not
// take what was meant for it.
func (r *Routing) nextHop(vni uint32, n *network, route southbound.Route) kernel.Location {
	peer, known := n.peers[route.Node]
	switch {
	case route.Via == southbound.RouteBlackhole:
		return kernel.Location{Kind: kernel.LocationBlackhole}
	case route.Via != southbound.RoutePort || !known:
		return kernel.Location{}
	case peer.Name != r.cfg.Node:
		return kernel.Location{Kind: kernel.LocationRemote, Tunnel: peer.Address, Node: route.Node, MAC: route.MAC}
	}
	for _, p := range n.ports {
		if p.MAC != route.MAC {
			continue
		}
		if d, ok := r.deviceOf(vni, p); ok {
			return kernel.Location{Kind: d.kind, IfIndex: d.ifindex, Subnet: p.Subnet, Node: route.Node, MAC: p.MAC}
		}
	}
	return kernel.Location{}
}

// deviceOf returns the device of a local port, where it is in place.
func (r *Routing) deviceOf(vni uint32, p southbound.Port) (device, bool) {
	for _, i := range p.Interfaces {
		if d, ok := r.devices[vni][i.Address]; ok {
			return d, true
		}
	}
	return device{}, false
}

// allowed makes what the VPC's local ports may send from beside their own addresses.
func (r *Routing) allowed(vni uint32, n *network) map[kernel.SourceKey]kernel.Source {
	allowed := make(map[kernel.SourceKey]kernel.Source)
	for _, p := range n.ports {
		d, ok := r.deviceOf(vni, p)
		if !ok {
			continue
		}
		for _, prefix := range p.Sources {
			allowed[kernel.SourceKey{IfIndex: d.ifindex, Prefix: prefix}] = kernel.Source{}
		}
	}
	return allowed
}
