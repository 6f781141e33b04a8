// SPDX-License-Identifier: Apache-2.0

// Package southbound is the words between server and node: the rows that say what one node must do, their order, and
// the stream that carries them. A row is resolved: a node needs nothing but its rows to forward.
package southbound

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Table is the kind of a row. Tables are filled in ascending order and emptied in descending order, so that what a row
// leans on is there before it.
type Table uint8

// Tables in the order in which they are filled.
const (
	TableVPC Table = iota + 1
	TableSubnet
	TablePeer
	TablePort
	TableLocation
	TableRoute
)

// String returns the word that begins a row's key as people see it.
func (t Table) String() string {
	switch t {
	case TableVPC:
		return "vpc"
	case TableSubnet:
		return "subnet"
	case TablePeer:
		return "peer"
	case TablePort:
		return "port"
	case TableLocation:
		return "location"
	case TableRoute:
		return "route"
	}
	return fmt.Sprintf("table%d", uint8(t))
}

// RouteVia is what becomes of a packet that a route takes.
type RouteVia uint8

// What a route can lead to. Zero is no route.
const (
	RouteBlackhole RouteVia = iota + 1 // it is dropped and counted, and its sender is told
	RoutePort                          // it goes to a port, whatever its destination address
)

// String returns the word that people see.
func (v RouteVia) String() string {
	switch v {
	case RouteBlackhole:
		return "blackhole"
	case RoutePort:
		return "port"
	}
	return fmt.Sprintf("via%d", uint8(v))
}

// MAC is a 48-bit Ethernet address in transmission order.
type MAC [6]byte

// String writes the address with colons, in lower case.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Key names a row on its node. Two rows of one key replace each other. Keys are comparable values.
type Key struct {
	Table      Table
	VNI        uint32
	Node       uint16       // TablePeer
	RouteTable uint32       // TableRoute
	Prefix     netip.Prefix // TableSubnet, TableRoute; TableLocation: the address as a prefix of full length
	Tenant     string       // TablePort
	Name       string       // TablePort
}

// String writes the key as people see it, for example location/4096/10.0.1.4.
func (k Key) String() string {
	switch k.Table {
	case TableSubnet:
		return fmt.Sprintf("subnet/%d/%s", k.VNI, k.Prefix)
	case TablePeer:
		return fmt.Sprintf("peer/%d/%d", k.VNI, k.Node)
	case TablePort:
		return fmt.Sprintf("port/%d/%s/%s", k.VNI, k.Tenant, k.Name)
	case TableLocation:
		return fmt.Sprintf("location/%d/%s", k.VNI, k.Prefix.Addr())
	case TableRoute:
		return fmt.Sprintf("route/%d/%d/%s", k.VNI, k.RouteTable, k.Prefix)
	}
	return fmt.Sprintf("%s/%d", k.Table, k.VNI)
}

// Compare orders keys by table (the order of filling), then by VNI, then by the rest.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Table, o.Table), cmp.Compare(k.VNI, o.VNI), cmp.Compare(k.Node, o.Node),
		cmp.Compare(k.RouteTable, o.RouteTable), k.Prefix.Addr().Compare(o.Prefix.Addr()), cmp.Compare(k.Prefix.Bits(), o.Prefix.Bits()),
		strings.Compare(k.Tenant, o.Tenant), strings.Compare(k.Name, o.Name))
}

// Row is one thing that a node must do. Rows are values: they are never changed once made.
type Row interface {
	// Key names the row on its node.
	Key() Key
	// Equal reports whether other is the same row with the same content.
	Equal(other Row) bool
	// String writes the row as people see it in a dump: the key, then name=value pairs.
	String() string
}

// VPC is a virtual network that the node takes part in.
type VPC struct {
	VNI          uint32 // 24 bits
	TenantNumber uint32
	Tenant, Name string
	Prefixes     []netip.Prefix
}

// Subnet is one range of a VPC with the router's address in it. A subnet has a row for each of its prefixes.
type Subnet struct {
	VNI     uint32
	Number  uint32 // inside the VPC, from 1
	Prefix  netip.Prefix
	Gateway netip.Addr
}

// Peer is a node that may send packets of a VPC, and where its tunnel ends.
type Peer struct {
	VNI     uint32
	Node    uint16
	Name    string
	Address netip.Addr
}

// Port is an interface of a workload that is attached at this node.
type Port struct {
	VNI          uint32
	Tenant, Name string
	TenantNumber uint32
	Subnet       uint32
	Table        uint32 // the route table that its packets to the router ask first; 0: none
	MAC          MAC
	Interfaces   []Interface    // one for each address family at most
	Sources      []netip.Prefix // what it may send from besides its own addresses; ascending
	Binding      string         // the attachment that the row is for
	DNS          []netip.Addr
}

// Interface is one address of a port, with the range it lies in and its first hop.
type Interface struct {
	Address netip.Addr
	Bits    int
	Gateway netip.Addr
}

// Location says at which node an address of a VPC lives.
type Location struct {
	VNI     uint32
	Address netip.Addr
	Node    uint16
	MAC     MAC
	Subnet  uint32
}

// Route is one entry of a route table. Every node of the VPC has it, because every node routes.
type Route struct {
	VNI    uint32
	Table  uint32 // number of the route table, inside the VPC, from 1
	Prefix netip.Prefix
	Via    RouteVia
	Node   uint16 // RoutePort: where the port is attached; 0: nowhere, so what takes the route is unreachable
	MAC    MAC    // RoutePort: the port's
}

// Key is the VNI.
func (r VPC) Key() Key { return Key{Table: TableVPC, VNI: r.VNI} }

// Key is VNI and prefix.
func (r Subnet) Key() Key { return Key{Table: TableSubnet, VNI: r.VNI, Prefix: r.Prefix} }

// Key is VNI and node.
func (r Peer) Key() Key { return Key{Table: TablePeer, VNI: r.VNI, Node: r.Node} }

// Key is VNI, tenant and name.
func (r Port) Key() Key { return Key{Table: TablePort, VNI: r.VNI, Tenant: r.Tenant, Name: r.Name} }

// Key is VNI and address.
func (r Location) Key() Key {
	return Key{Table: TableLocation, VNI: r.VNI, Prefix: netip.PrefixFrom(r.Address, r.Address.BitLen())}
}

// Key is VNI, table and prefix.
func (r Route) Key() Key {
	return Key{Table: TableRoute, VNI: r.VNI, RouteTable: r.Table, Prefix: r.Prefix}
}

// String returns the key and the fields.
func (r VPC) String() string {
	return fmt.Sprintf("%s tenant=%s(%d) name=%s prefixes=%v", r.Key(), r.Tenant, r.TenantNumber, r.Name, r.Prefixes)
}

// String returns the key and the fields.
func (r Subnet) String() string {
	return fmt.Sprintf("%s number=%d gateway=%s", r.Key(), r.Number, r.Gateway)
}

// String returns the key and the fields.
func (r Peer) String() string {
	return fmt.Sprintf("%s name=%s address=%s", r.Key(), r.Name, r.Address)
}

// String returns the key and the fields; table, sources and dns only where there are any.
func (r Port) String() string {
	var b strings.Builder
	if r.Table != 0 {
		fmt.Fprintf(&b, " table=%d", r.Table)
	}
	for _, i := range r.Interfaces {
		fmt.Fprintf(&b, " address=%s/%d gateway=%s", i.Address, i.Bits, i.Gateway)
	}
	if len(r.Sources) > 0 {
		fmt.Fprintf(&b, " sources=%v", r.Sources)
	}
	if len(r.DNS) > 0 {
		fmt.Fprintf(&b, " dns=%v", r.DNS)
	}
	return fmt.Sprintf("%s tenant=%d subnet=%d mac=%s%s binding=%s", r.Key(), r.TenantNumber, r.Subnet, r.MAC, b.String(), r.Binding)
}

// String returns the key and the fields.
func (r Location) String() string {
	return fmt.Sprintf("%s node=%d mac=%s subnet=%d", r.Key(), r.Node, r.MAC, r.Subnet)
}

// String returns the key and the fields.
func (r Route) String() string {
	if r.Via != RoutePort {
		return fmt.Sprintf("%s via=%s", r.Key(), r.Via)
	}
	return fmt.Sprintf("%s via=%s node=%d mac=%s", r.Key(), r.Via, r.Node, r.MAC)
}

// Equal compares all fields.
func (r VPC) Equal(other Row) bool {
	o, ok := other.(VPC)
	return ok && r.VNI == o.VNI && r.TenantNumber == o.TenantNumber && r.Tenant == o.Tenant && r.Name == o.Name &&
		slices.Equal(r.Prefixes, o.Prefixes)
}

// Equal compares all fields.
func (r Subnet) Equal(other Row) bool { o, ok := other.(Subnet); return ok && r == o }

// Equal compares all fields.
func (r Peer) Equal(other Row) bool { o, ok := other.(Peer); return ok && r == o }

// Equal compares all fields.
func (r Port) Equal(other Row) bool {
	o, ok := other.(Port)
	return ok && r.VNI == o.VNI && r.Tenant == o.Tenant && r.Name == o.Name && r.TenantNumber == o.TenantNumber &&
		r.Subnet == o.Subnet && r.Table == o.Table && r.MAC == o.MAC && r.Binding == o.Binding &&
		slices.Equal(r.Interfaces, o.Interfaces) && slices.Equal(r.Sources, o.Sources) && slices.Equal(r.DNS, o.DNS)
}

// Equal compares all fields.
func (r Location) Equal(other Row) bool { o, ok := other.(Location); return ok && r == o }

// Equal compares all fields.
func (r Route) Equal(other Row) bool { o, ok := other.(Route); return ok && r == o }
