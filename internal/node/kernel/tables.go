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
	Table            uint32 // number of the subnet's route table inside the VPC; 0: none
	Sources          bool   // the port may send from what the source table has, too
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
	// Of routes only.
	LocationBlackhole // what goes there is dropped
	LocationConnected // a subnet of the VPC: the locations have its addresses
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

// RouteKey is a range of addresses in a route table of a VPC.
type RouteKey struct {
	VNI    uint32
	Table  uint32 // number inside the VPC
	Prefix netip.Prefix
}

// SourceKey is a range of addresses that a local port may send from beside its own.
type SourceKey struct {
	IfIndex uint32 // of the port's device
	Prefix  netip.Prefix
}

// Source is the value of an allowed range: there is nothing to say of it.
type Source struct{}

// RouteTable is the routes of the VPCs; the longest prefix wins. A location is the next hop.
type RouteTable struct {
	table[RouteKey, Location, bpfRouteKey, bpfLocationValue]
}

// SourceTable is what ports may send from beside their own addresses.
type SourceTable struct {
	table[SourceKey, Source, bpfSourceKey, bpfSourceValue]
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
	case LocationBlackhole:
		return "blackhole"
	case LocationConnected:
		return "connected"
	}
	return fmt.Sprintf("kind%d", uint8(k))
}

var encodePort = codec[PortKey, Port, bpfPortKey, bpfPortValue]{
	key: func(k PortKey) bpfPortKey { return bpfPortKey{Ifindex: k.IfIndex} },
	value: func(k PortKey, v Port) bpfPortValue {
		return bpfPortValue{
			Ifindex: k.IfIndex, IfindexAgain: k.IfIndex,
			Vni: v.VNI, Tenant: v.Tenant, Subnet: v.Subnet, Mtu: v.MTU,
			Addr4: rawAddr(v.Addr4), Addr6: rawAddr(v.Addr6), Mac: v.MAC,
			Router4: rawAddr(v.Router4), Router6: rawAddr(v.Router6),
			Table: v.Table, Flags: portFlags(v),
		}
	},
	fromKey: func(k *bpfPortKey) PortKey { return PortKey{IfIndex: k.Ifindex} },
	fromRead: func(v *bpfPortValue) Port {
		return Port{
			VNI: v.Vni, Tenant: v.Tenant, Subnet: v.Subnet, MTU: v.Mtu,
			Addr4: addrFrom(v.Addr4.B), Addr6: addrFrom(v.Addr6.B), MAC: v.Mac,
			Router4: addrFrom(v.Router4.B), Router6: addrFrom(v.Router6.B),
			Table: v.Table, Sources: v.Flags&flagSources != 0,
		}
	},
}

// rawLocation is a location of a VPC.
func rawLocation(vni uint32, v Location) bpfLocationValue {
	return bpfLocationValue{
		Vni: vni, VniAgain: vni,
		Tunnel: rawAddr(v.Tunnel), Ifindex: v.IfIndex, Subnet: v.Subnet, Node: v.Node,
		Kind: uint8(v.Kind), Mac: v.MAC,
	}
}

var encodeLocation = codec[LocationKey, Location, bpfLocationKey, bpfLocationValue]{
	key:     func(k LocationKey) bpfLocationKey { return bpfLocationKey{Vni: k.VNI, Addr: rawAddr(k.Addr)} },
	value:   func(k LocationKey, v Location) bpfLocationValue { return rawLocation(k.VNI, v) },
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
	value:    func(_ SenderKey, v Sender) bpfSenderValue { return bpfSenderValue{Tenant: v.Tenant, Node: v.Node} },
	fromKey:  func(k *bpfSenderKey) SenderKey { return SenderKey{VNI: k.Vni, Addr: addrFrom(k.Addr.B)} },
	fromRead: func(v *bpfSenderValue) Sender { return Sender{Tenant: v.Tenant, Node: v.Node} },
}

// flagSources is PORT_SOURCES.
const flagSources = 1

func portFlags(v Port) uint32 {
	if v.Sources {
		return flagSources
	}
	return 0
}

// Bits of a key that stand before the address.
const (
	routeBits  = 96
	sourceBits = 64
)

var encodeRoute = codec[RouteKey, Location, bpfRouteKey, bpfLocationValue]{
	key: func(k RouteKey) bpfRouteKey {
		p := rawPrefix(k.Prefix)
		return bpfRouteKey{Bits: routeBits + p.bits, Vni: k.VNI, Table: k.Table, Family: p.family, Addr: p.addr}
	},
	value: func(k RouteKey, v Location) bpfLocationValue { return rawLocation(k.VNI, v) },
	fromKey: func(k *bpfRouteKey) RouteKey {
		return RouteKey{VNI: k.Vni, Table: k.Table, Prefix: prefixFrom(k.Family, k.Bits-routeBits, k.Addr)}
	},
	fromRead: encodeLocation.fromRead,
}

var encodeSource = codec[SourceKey, Source, bpfSourceKey, bpfSourceValue]{
	key: func(k SourceKey) bpfSourceKey {
		p := rawPrefix(k.Prefix)
		return bpfSourceKey{Bits: sourceBits + p.bits, Ifindex: k.IfIndex, Family: p.family, Addr: p.addr}
	},
	value: func(SourceKey, Source) bpfSourceValue { return bpfSourceValue{Allowed: 1} },
	fromKey: func(k *bpfSourceKey) SourceKey {
		return SourceKey{IfIndex: k.Ifindex, Prefix: prefixFrom(k.Family, k.Bits-sourceBits, k.Addr)}
	},
	fromRead: func(*bpfSourceValue) Source { return Source{} },
}

// prefix is a range in the packet path's 16-byte form.
type prefix struct {
	family, bits uint32
	addr         bpfAddr
}

const mappedBits = 96 // of ::ffff:0:0/96, in which IPv4 lies

func rawPrefix(p netip.Prefix) prefix {
	raw := prefix{family: 6, bits: uint32(p.Bits()), addr: rawAddr(p.Masked().Addr())}
	if p.Addr().Is4() {
		raw.family, raw.bits = 4, raw.bits+mappedBits
	}
	return raw
}

func prefixFrom(family, bits uint32, addr bpfAddr) netip.Prefix {
	a := netip.AddrFrom16(addr.B)
	if family == 4 {
		a, bits = a.Unmap(), bits-mappedBits
	}
	return netip.PrefixFrom(a, int(bits))
}
