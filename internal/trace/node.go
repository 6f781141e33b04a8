// SPDX-License-Identifier: Apache-2.0

// Package trace is the packet path in pure Go: the same verdicts, rewrites and drop reasons as the eBPF programs, computed
// from a node's rows. It answers weft trace, and the programs are tested against it.
package trace

import (
	"net/netip"

	"weft/internal/southbound"
)

// Verdict is what becomes of a frame at one node.
type Verdict uint8

// What can become of a frame.
const (
	Drop     Verdict = iota
	Local            // to a port of this node
	Tunnel           // to another node
	Answer           // back to the port that sent it, as its own answer
	Consumed         // heard, and not answered
	Service          // to the agent, which answers by itself
)

// String returns the word for the verdict.
func (v Verdict) String() string {
	return [...]string{"drop", "local", "tunnel", "answer", "consumed", "service"}[v]
}

// Result is what becomes of a frame, and the frame as it leaves.
type Result struct {
	Verdict Verdict
	Reason  string     // Drop: the word of the drop reason
	Frame   []byte     // as it leaves; of a Drop, and to Service, as it came
	Told    []byte     // Drop: the ICMP error that goes back to the port instead; nil: none
	Port    PortID     // Local: who gets it
	Node    uint16     // Tunnel: number of the other node
	Remote  netip.Addr // Tunnel: its tunnel end
}

// PortID names a port.
type PortID struct{ Tenant, Name string }

// String returns tenant/name.
func (p PortID) String() string { return p.Tenant + "/" + p.Name }

// Config is what all nodes of a network have in common.
type Config struct {
	RouterMAC southbound.MAC
	MTU       int // of the overlay, layer 3, bytes

	// Table names a route table of a VNI for who reads a walk: rows have its number only. Nil: the number.
	Table func(vni, number uint32) string
}

// Node is the tables of one node, as its agent makes them of its rows. Rates are not in it: what the programs limit, the
// model always does.
type Node struct {
	Name      string
	cfg       Config
	ports     map[PortID]southbound.Port
	locations map[locationKey]location
	hops      map[hopKey]location    // local ports that others' packets may be routed through
	routes    map[tableKey][]route   // of each route table
	senders   map[locationKey]uint16 // VNI and tunnel end: number of the node
	vpcs      map[uint32]southbound.VPC
	subnets   []southbound.Subnet
	self      map[uint32]netip.Addr // the node's own tunnel end, by VNI
	names     map[uint16]string     // of other nodes
	recorder  *recorder
}

type locationKey struct {
	vni  uint32
	addr netip.Addr
}

type hopKey struct {
	vni uint32
	mac southbound.MAC
}

type tableKey struct{ vni, table uint32 }

// location is where an address lives, or a route leads, as seen from the node.
type location struct {
	kind   kind
	mac    southbound.MAC
	subnet uint32
	port   PortID       // local
	node   uint16       // remote
	tunnel netip.Addr   // remote
	via    netip.Prefix // of a route: its prefix
}

type kind uint8

const (
	local kind = iota + 1
	remote
	router
	// Of routes only.
	blackhole
	connected
	nowhere
)

// route is a prefix of a route table.
type route struct {
	prefix netip.Prefix
	to     location
}

// builder is what is known of a node while its tables are made.
type builder struct {
	*Node
	peers map[southbound.Key]southbound.Peer
	here  map[locationKey]PortID
}

// NewNode builds a node's tables from its rows, with every port of it in place.
func NewNode(name string, rows []southbound.Row, cfg Config) *Node {
	b := builder{
		Node: &Node{
			Name: name, cfg: cfg, ports: make(map[PortID]southbound.Port), locations: make(map[locationKey]location),
			hops: make(map[hopKey]location), routes: make(map[tableKey][]route),
			senders: make(map[locationKey]uint16), vpcs: make(map[uint32]southbound.VPC),
			self: make(map[uint32]netip.Addr), names: make(map[uint16]string),
		},
		peers: make(map[southbound.Key]southbound.Peer), here: make(map[locationKey]PortID),
	}
	for _, row := range rows {
		b.first(row)
	}
	for _, row := range rows {
		switch r := row.(type) {
		case southbound.Location:
			b.locate(r)
		case southbound.Route:
			b.route(r)
		}
	}
	return b.Node
}

// first takes the rows that lean on no other.
func (b *builder) first(row southbound.Row) {
	switch r := row.(type) {
	case southbound.VPC:
		b.vpcs[r.VNI] = r
	case southbound.Subnet:
		b.subnets = append(b.subnets, r)
		if r.Gateway.IsValid() {
			b.locations[locationKey{r.VNI, r.Gateway}] = location{kind: router, mac: b.cfg.RouterMAC, subnet: r.Number}
		}
	case southbound.Peer:
		b.names[r.Node] = r.Name
		b.peers[r.Key()] = r
		if r.Name == b.Name {
			b.self[r.VNI] = r.Address
		} else {
			b.senders[locationKey{r.VNI, r.Address}] = r.Node
		}
	case southbound.Port:
		id := PortID{r.Tenant, r.Name}
		b.ports[id] = r
		for _, i := range r.Interfaces {
			b.here[locationKey{r.VNI, i.Address}] = id
		}
	}
}

// locate decides what the node knows of an address: a port here, a tunnel to another node, or nothing.
func (b *builder) locate(r southbound.Location) {
	key := locationKey{r.VNI, r.Address}
	peer, known := b.peers[southbound.Peer{VNI: r.VNI, Node: r.Node}.Key()]
	l := location{mac: r.MAC, subnet: r.Subnet, node: r.Node}
	port, present := b.here[key]
	switch {
	case known && peer.Name == b.Name && present:
		l.kind, l.port = local, port
		if p := b.ports[port]; len(p.Sources) > 0 && p.MAC == r.MAC {
			b.hops[hopKey{r.VNI, r.MAC}] = l
		}
	case known && peer.Name != b.Name:
		l.kind, l.tunnel = remote, peer.Address
	default:
		return
	}
	b.locations[key] = l
}

// route adds a route to its table, and the VPC's subnets and router addresses where it is the table's first.
func (b *builder) route(r southbound.Route) {
	key := tableKey{r.VNI, r.Table}
	if b.routes[key] == nil {
		for _, s := range b.subnets {
			if s.VNI != r.VNI {
				continue
			}
			to := location{kind: connected, subnet: s.Number}
			b.routes[key] = append(b.routes[key], route{s.Prefix, to})
			if s.Gateway.IsValid() {
				b.routes[key] = append(b.routes[key], route{netip.PrefixFrom(s.Gateway, s.Gateway.BitLen()), to})
			}
		}
	}
	to := b.nextHop(r)
	to.via = r.Prefix
	b.routes[key] = append(b.routes[key], route{r.Prefix, to})
}

// nextHop is where a route leads.
func (b *builder) nextHop(r southbound.Route) location {
	peer, known := b.peers[southbound.Peer{VNI: r.VNI, Node: r.Node}.Key()]
	switch {
	case r.Via == southbound.RouteBlackhole:
		return location{kind: blackhole}
	case r.Via != southbound.RoutePort || !known:
		return location{kind: nowhere}
	case peer.Name != b.Name:
		return location{kind: remote, tunnel: peer.Address, node: r.Node, mac: r.MAC}
	}
	for id, p := range b.ports {
		if p.VNI == r.VNI && p.MAC == r.MAC && len(p.Interfaces) > 0 {
			return location{kind: local, mac: p.MAC, subnet: p.Subnet, port: id, node: r.Node}
		}
	}
	return location{kind: nowhere}
}

// Port returns the row of a port of this node.
func (n *Node) Port(id PortID) (southbound.Port, bool) {
	p, ok := n.ports[id]
	return p, ok
}

// Locate tells at which MAC and in which subnet an address of a VPC is, as a workload would learn by ARP or ND.
func (n *Node) Locate(vni uint32, addr netip.Addr) (mac southbound.MAC, subnet uint32, ok bool) {
	l, ok := n.locations[locationKey{vni, addr}]
	return l.mac, l.subnet, ok
}

// find is where a packet goes next: the longest prefix of the port's route table wins, the VPC's subnets among them, and of
// equal ones the route; what is in a subnet, or in no prefix, is found by its address.
func (n *Node) find(p *packet, port southbound.Port) (to location, ok bool) {
	if port.Table != 0 && p.dst == n.cfg.RouterMAC {
		bits := -1
		for _, r := range n.routes[tableKey{port.VNI, port.Table}] {
			if r.prefix.Contains(p.ip.dst) && r.prefix.Bits() >= bits {
				bits, to, ok = r.prefix.Bits(), r.to, true
			}
		}
		if ok && to.kind != connected {
			return to, true
		}
	}
	to, ok = n.locations[locationKey{port.VNI, p.ip.dst}]
	return to, ok
}
