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
)

// String returns the word for the verdict.
func (v Verdict) String() string {
	return [...]string{"drop", "local", "tunnel", "answer", "consumed"}[v]
}

// Result is what becomes of a frame, and the frame as it leaves.
type Result struct {
	Verdict Verdict
	Reason  string     // Drop: the word of the drop reason
	Frame   []byte     // as it leaves; of a Drop, as it came
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
}

// Node is the tables of one node, as its agent makes them of its rows.
type Node struct {
	Name      string
	cfg       Config
	ports     map[PortID]southbound.Port
	locations map[locationKey]location
	senders   map[locationKey]uint16 // VNI and tunnel end: number of the node
	vpcs      map[uint32]southbound.VPC
	self      map[uint32]netip.Addr // the node's own tunnel end, by VNI
	names     map[uint16]string     // of other nodes
	recorder  *recorder
}

type locationKey struct {
	vni  uint32
	addr netip.Addr
}

// location is where an address lives, as seen from the node.
type location struct {
	kind   kind
	mac    southbound.MAC
	subnet uint32
	port   PortID     // local
	node   uint16     // remote
	tunnel netip.Addr // remote
}

type kind uint8

const (
	local kind = iota + 1
	remote
	router
)

// NewNode builds a node's tables from its rows, with every port of it in place.
func NewNode(name string, rows []southbound.Row, cfg Config) *Node {
	n := &Node{
		Name: name, cfg: cfg, ports: make(map[PortID]southbound.Port), locations: make(map[locationKey]location),
		senders: make(map[locationKey]uint16), vpcs: make(map[uint32]southbound.VPC),
		self: make(map[uint32]netip.Addr), names: make(map[uint16]string),
	}
	peers := make(map[southbound.Key]southbound.Peer)
	here := make(map[locationKey]PortID)
	for _, row := range rows {
		switch r := row.(type) {
		case southbound.VPC:
			n.vpcs[r.VNI] = r
		case southbound.Peer:
			n.names[r.Node] = r.Name
			peers[southbound.Peer{VNI: r.VNI, Node: r.Node}.Key()] = r
			if r.Name == name {
				n.self[r.VNI] = r.Address
			} else {
				n.senders[locationKey{r.VNI, r.Address}] = r.Node
			}
		case southbound.Port:
			id := PortID{r.Tenant, r.Name}
			n.ports[id] = r
			for _, i := range r.Interfaces {
				here[locationKey{r.VNI, i.Address}] = id
			}
		}
	}
	for _, row := range rows {
		switch r := row.(type) {
		case southbound.Subnet:
			if r.Gateway.IsValid() {
				n.locations[locationKey{r.VNI, r.Gateway}] = location{kind: router, mac: cfg.RouterMAC, subnet: r.Number}
			}
		case southbound.Location:
			n.locate(r, peers, here)
		}
	}
	return n
}

// locate decides what the node knows of an address: a port here, a tunnel to another node, or nothing.
func (n *Node) locate(r southbound.Location, peers map[southbound.Key]southbound.Peer, here map[locationKey]PortID) {
	key := locationKey{r.VNI, r.Address}
	peer, known := peers[southbound.Peer{VNI: r.VNI, Node: r.Node}.Key()]
	l := location{mac: r.MAC, subnet: r.Subnet, node: r.Node}
	port, present := here[key]
	switch {
	case known && peer.Name == n.Name && present:
		l.kind, l.port = local, port
	case known && peer.Name != n.Name:
		l.kind, l.tunnel = remote, peer.Address
	default:
		return
	}
	n.locations[key] = l
}

// Port returns the row of a port of this node.
func (n *Node) Port(id PortID) (southbound.Port, bool) {
	p, ok := n.ports[id]
	return p, ok
}

// Locate tells at which MAC and in which subnet an address of a VPC is, as a workload would learn by ARP.
func (n *Node) Locate(vni uint32, addr netip.Addr) (mac southbound.MAC, subnet uint32, ok bool) {
	l, ok := n.locations[locationKey{vni, addr}]
	return l.mac, l.subnet, ok
}
