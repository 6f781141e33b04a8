// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"net/netip"
)

// PortKey names a local port by its device.
type PortKey struct {
	IfIndex uint32 // in the node's namespace
}

// Port is what the packet path knows of a local port.
type Port struct {
	VNI, Tenant  uint32
	Subnet       uint32     // number inside the VPC
	MTU          uint32     // layer 3, bytes
	Addr4, Addr6 netip.Addr // the zero Addr: none
	MAC          [6]byte
	// The addresses of the port's subnet that the virtual router has: where its ICMP errors come from. Without one, no
	// errors of that family are sent.
	Router4, Router6 netip.Addr
}

// LocationKey is an address of a VPC.
type LocationKey struct {
	VNI  uint32
	Addr netip.Addr
}

// LocationKind says how an address is reached.
type LocationKind uint8

// How an address is reached. LocationNone is never right: it is the zero value.
const (
	LocationNone   LocationKind = iota
	LocationPeer                // at this node, behind a veth whose other end is in another namespace
	LocationDevice              // at this node, behind a tap or another device
	LocationRemote              // at another node, by tunnel
	LocationRouter              // the virtual router itself
)

// Location is where an address lives.
type Location struct {
	Kind    LocationKind
	Tunnel  netip.Addr // LocationRemote
	IfIndex uint32     // LocationPeer, LocationDevice: the port's device in the node's namespace
	Subnet  uint32     // number inside the VPC
	Node    uint16
	MAC     [6]byte
}

// SenderKey is the tunnel end of a node that may send packets of a VNI.
type SenderKey struct {
	VNI  uint32
	Addr netip.Addr
}

// Sender is what a packet through the tunnel is counted for.
type Sender struct {
	Tenant uint32
	Node   uint16
}

// PortTable is the local ports.
type PortTable struct {
	table[PortKey, Port, bpfPortKey, bpfPortValue]
}

// LocationTable is where addresses live.
type LocationTable struct {
	table[LocationKey, Location, bpfLocationKey, bpfLocationValue]
}

// SenderTable is who may send through the tunnel.
type SenderTable struct {
	table[SenderKey, Sender, bpfSenderKey, bpfSenderValue]
}

// String returns the word for the kind.
func (k LocationKind) String() string {
	switch k {
	case LocationNone:
		return "none"
	case LocationPeer:
		return "peer"
	case LocationDevice:
		return "device"
	case LocationRemote:
		return "remote"
	case LocationRouter:
		return "router"
	}
	return fmt.Sprintf("kind%d", uint8(k))
}

var encodePort = codec[PortKey, Port, bpfPortKey, bpfPortValue]{
	key: func(k PortKey) bpfPortKey { return bpfPortKey{Ifindex: k.IfIndex} },
	value: func(v Port) bpfPortValue {
		return bpfPortValue{
			Vni: v.VNI, Tenant: v.Tenant, Subnet: v.Subnet, Mtu: v.MTU,
			Addr4: rawAddr(v.Addr4), Addr6: rawAddr(v.Addr6), Mac: v.MAC,
			Router4: rawAddr(v.Router4), Router6: rawAddr(v.Router6),
		}
	},
	fromKey: func(k *bpfPortKey) PortKey { return PortKey{IfIndex: k.Ifindex} },
	fromRead: func(v *bpfPortValue) Port {
		return Port{
			VNI: v.Vni, Tenant: v.Tenant, Subnet: v.Subnet, MTU: v.Mtu,
			Addr4: addrFrom(v.Addr4.B), Addr6: addrFrom(v.Addr6.B), MAC: v.Mac,
			Router4: addrFrom(v.Router4.B), Router6: addrFrom(v.Router6.B),
		}
	},
}

var encodeLocation = codec[LocationKey, Location, bpfLocationKey, bpfLocationValue]{
	key: func(k LocationKey) bpfLocationKey { return bpfLocationKey{Vni: k.VNI, Addr: rawAddr(k.Addr)} },
	value: func(v Location) bpfLocationValue {
		return bpfLocationValue{
			Tunnel: rawAddr(v.Tunnel), Ifindex: v.IfIndex, Subnet: v.Subnet, Node: v.Node,
			Kind: uint8(v.Kind), Mac: v.MAC,
		}
	},
	fromKey: func(k *bpfLocationKey) LocationKey { return LocationKey{VNI: k.Vni, Addr: addrFrom(k.Addr.B)} },
	fromRead: func(v *bpfLocationValue) Location {
		return Location{
			Kind: LocationKind(v.Kind), Tunnel: addrFrom(v.Tunnel.B), IfIndex: v.Ifindex, Subnet: v.Subnet,
			Node: v.Node, MAC: v.Mac,
		}
	},
}

var encodeSender = codec[SenderKey, Sender, bpfSenderKey, bpfSenderValue]{
	key:      func(k SenderKey) bpfSenderKey { return bpfSenderKey{Vni: k.VNI, Addr: rawAddr(k.Addr)} },
	value:    func(v Sender) bpfSenderValue { return bpfSenderValue{Tenant: v.Tenant, Node: v.Node} },
	fromKey:  func(k *bpfSenderKey) SenderKey { return SenderKey{VNI: k.Vni, Addr: addrFrom(k.Addr.B)} },
	fromRead: func(v *bpfSenderValue) Sender { return Sender{Tenant: v.Tenant, Node: v.Node} },
}
