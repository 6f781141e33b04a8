// SPDX-License-Identifier: Apache-2.0

// Package overlay keeps, on one node, where the addresses of its VPCs live and which nodes may send their packets.
package overlay

import (
	"errors"
	"net/netip"

	"weft/internal/node/kernel"
	"weft/internal/node/reconcile"
	"weft/internal/southbound"
)

// Config is what an Overlay needs.
type Config struct {
	Node      string // name of this node, as peers' rows have it
	RouterMAC [6]byte
	Locations reconcile.Target[kernel.LocationKey, kernel.Location]
	Senders   reconcile.Target[kernel.SenderKey, kernel.Sender]
	Drift     func(what string) // told of entries that somebody else has changed; nil: nobody
}

// Device is where a local port can be reached.
type Device struct {
	IfIndex uint32
	Kind    kernel.LocationKind
}

// Overlay turns rows of the tables VPC, Subnet, Peer and Location into entries of the packet path. It belongs to one
// goroutine.
type Overlay struct {
	cfg       Config
	locations *reconcile.Table[kernel.LocationKey, kernel.Location]
	senders   *reconcile.Table[kernel.SenderKey, kernel.Sender]
	nets      map[uint32]*network
	devices   map[southbound.Key]Device // by the key of the location's row
}

// network is the rows of one VPC.
type network struct {
	tenant    uint32
	subnets   map[southbound.Key]southbound.Subnet
	peers     map[uint16]southbound.Peer
	locations map[southbound.Key]southbound.Location
	hops      map[southbound.Key]southbound.MAC // of local ports that others' packets may be routed through
}

// New returns an overlay that wants nothing.
func New(cfg Config) *Overlay {
	o := &Overlay{
		cfg:       cfg,
		locations: reconcile.New("locations", cfg.Locations),
		senders:   reconcile.New("senders", cfg.Senders),
		nets:      make(map[uint32]*network),
		devices:   make(map[southbound.Key]Device),
	}
	o.locations.Tell(cfg.Drift)
	o.senders.Tell(cfg.Drift)
	return o
}

func (o *Overlay) net(vni uint32) *network {
	n, ok := o.nets[vni]
	if !ok {
		n = &network{
			subnets:   make(map[southbound.Key]southbound.Subnet),
			peers:     make(map[uint16]southbound.Peer),
			locations: make(map[southbound.Key]southbound.Location),
			hops:      make(map[southbound.Key]southbound.MAC),
		}
		o.nets[vni] = n
	}
	return n
}

// Reset forgets all rows, as at the beginning of a snapshot. The kernel is not touched before Apply.
func (o *Overlay) Reset() {
	clear(o.nets)
	o.locations.Reset()
	o.senders.Reset()
}

// Update takes a row; those of other tables are passed over.
func (o *Overlay) Update(row southbound.Row) {
	switch r := row.(type) {
	case southbound.VPC:
		n := o.net(r.VNI)
		n.tenant = r.TenantNumber
		for _, p := range n.peers {
			o.sender(n, p)
		}
	case southbound.Subnet:
		o.removeRouter(r.VNI, o.net(r.VNI).subnets[r.Key()])
		o.net(r.VNI).subnets[r.Key()] = r
		o.router(r)
	case southbound.Peer:
		n := o.net(r.VNI)
		if old, ok := n.peers[r.Node]; ok && old.Address != r.Address {
			o.removeSender(n, old)
		}
		n.peers[r.Node] = r
		o.sender(n, r)
		for _, l := range n.locations {
			if l.Node == r.Node {
				o.location(n, l)
			}
		}
	case southbound.Port:
		n := o.net(r.VNI)
		old := n.hops[r.Key()]
		delete(n.hops, r.Key())
		if len(r.Sources) > 0 {
			n.hops[r.Key()] = r.MAC
		}
		o.nextHop(n, r.VNI, old)
		o.nextHop(n, r.VNI, r.MAC)
	case southbound.Location:
		n := o.net(r.VNI)
		old := n.locations[r.Key()]
		n.locations[r.Key()] = r
		o.location(n, r)
		o.nextHop(n, r.VNI, old.MAC)
	}
}

// Delete forgets a row by its key; one that is not there is fine.
func (o *Overlay) Delete(key southbound.Key) {
	n, ok := o.nets[key.VNI]
	if !ok {
		return
	}
	switch key.Table {
	case southbound.TableVPC:
		n.tenant = 0
		for _, p := range n.peers {
			o.sender(n, p)
		}
	case southbound.TableSubnet:
		o.removeRouter(key.VNI, n.subnets[key])
		delete(n.subnets, key)
	case southbound.TablePeer:
		if p, ok := n.peers[key.Node]; ok {
			o.removeSender(n, p)
			delete(n.peers, key.Node)
		}
		for _, l := range n.locations {
			if l.Node == key.Node {
				o.location(n, l)
			}
		}
	case southbound.TablePort:
		old := n.hops[key]
		delete(n.hops, key)
		o.nextHop(n, key.VNI, old)
	case southbound.TableLocation:
		old := n.locations[key]
		delete(n.locations, key)
		o.locations.Delete(kernel.LocationKey{VNI: key.VNI, Addr: key.Prefix.Addr()})
		o.nextHop(n, key.VNI, old.MAC)
	}
	if len(n.subnets)+len(n.peers)+len(n.locations)+len(n.hops) == 0 && n.tenant == 0 {
		delete(o.nets, key.VNI)
	}
}

// SetDevice says at which device of this node an address is reached; ok false: at none.
func (o *Overlay) SetDevice(vni uint32, addr netip.Addr, d Device, ok bool) {
	key := southbound.Location{VNI: vni, Address: addr}.Key()
	if ok {
		o.devices[key] = d
	} else {
		delete(o.devices, key)
	}
	if n, known := o.nets[vni]; known {
		if l, known := n.locations[key]; known {
			o.location(n, l)
		}
	}
}

// Rescan makes the next Apply find drift.
func (o *Overlay) Rescan() {
	o.locations.Rescan()
	o.senders.Rescan()
}

// Apply writes what differs. Senders come first: a node must be allowed to send before others are told to send to it.
func (o *Overlay) Apply() error { return errors.Join(o.senders.Apply(), o.locations.Apply()) }

// sender lets a peer send. This node is none of its own peers: what claims to come from it through the tunnel is forged.
func (o *Overlay) sender(n *network, p southbound.Peer) {
	if p.Name == o.cfg.Node {
		return
	}
	o.senders.Update(kernel.SenderKey{VNI: p.VNI, Addr: p.Address}, kernel.Sender{Tenant: n.tenant, Node: p.Node})
}

// removeSender forgets the address of a peer, unless another peer has taken it over: in one step nodes may exchange theirs.
func (o *Overlay) removeSender(n *network, p southbound.Peer) {
	for _, other := range n.peers {
		if other.Node != p.Node && other.Address == p.Address && other.Name != o.cfg.Node {
			return
		}
	}
	o.senders.Delete(kernel.SenderKey{VNI: p.VNI, Addr: p.Address})
}

// router makes the subnet's gateway an address of the virtual router.
func (o *Overlay) router(s southbound.Subnet) {
	if !s.Gateway.IsValid() {
		return
	}
	o.locations.Update(kernel.LocationKey{VNI: s.VNI, Addr: s.Gateway}, kernel.Location{
		Kind: kernel.LocationRouter, Subnet: s.Number, MAC: o.cfg.RouterMAC,
	})
}

func (o *Overlay) removeRouter(vni uint32, s southbound.Subnet) {
	if s.Gateway.IsValid() {
		o.locations.Delete(kernel.LocationKey{VNI: vni, Addr: s.Gateway})
	}
}

// location decides what the packet path knows of an address.
func (o *Overlay) location(n *network, l southbound.Location) {
	key := kernel.LocationKey{VNI: l.VNI, Addr: l.Address}
	if v, ok := o.place(n, l); ok {
		o.locations.Update(key, v)
	} else {
		o.locations.Delete(key)
	}
	o.nextHop(n, l.VNI, l.MAC)
}

// place is where an address lives: at a device here, behind a tunnel to another node, or nowhere.
func (o *Overlay) place(n *network, l southbound.Location) (v kernel.Location, ok bool) {
	v = kernel.Location{Subnet: l.Subnet, Node: l.Node, MAC: l.MAC}
	peer, known := n.peers[l.Node]
	device, local := o.devices[l.Key()]
	switch {
	case known && peer.Name == o.cfg.Node && local:
		v.Kind, v.IfIndex = device.Kind, device.IfIndex
	case known && peer.Name != o.cfg.Node:
		v.Kind, v.Tunnel = kernel.LocationRemote, peer.Address
	default:
		return kernel.Location{}, false
	}
	return v, true
}

// nextHop decides whether what other nodes route through a port here finds it: by the link-local address of its MAC
// (EUI-64), as the packet's own destination is somebody else's. Only ports that may send from other addresses are found.
func (o *Overlay) nextHop(n *network, vni uint32, mac southbound.MAC) {
	if mac == (southbound.MAC{}) {
		return
	}
	key := kernel.LocationKey{VNI: vni, Addr: linkLocal(mac)}
	for _, hop := range n.hops {
		if hop != mac {
			continue
		}
		for _, l := range n.locations {
			if v, ok := o.place(n, l); ok && l.MAC == mac && v.Kind != kernel.LocationRemote {
				o.locations.Update(key, v)
				return
			}
		}
	}
	o.locations.Delete(key)
}

// linkLocal is the link-local address of a MAC (RFC 4291, appendix A).
func linkLocal(m southbound.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}
