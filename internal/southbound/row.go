// SPDX-License-Identifier: Apache-2.0

// Package southbound is the words between server and node: the rows that say what one node must do, their order, and
// the stream that carries them. A row is resolved: a node needs nothing but its rows to forward.
package southbound

import (
	"fmt"
	"net/netip"
	"slices"
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
)

// String returns the name that begins a row's key.
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
	}
	return fmt.Sprintf("table%d", uint8(t))
}

// MAC is a 48-bit Ethernet address in transmission order.
type MAC [6]byte

// Row is one thing that a node must do. Rows are values: they are never changed once made.
type Row interface {
	// Table says which kind of row it is.
	Table() Table
	// Key names the row on its node: "location/4096/10.0.1.4". Two rows of one key replace each other.
	Key() string
	// Equal reports whether other is the same row with the same content.
	Equal(other Row) bool
}

// VPC is a virtual network that the node takes part in.
type VPC struct {
	VNI          uint32 // 24 bits
	TenantNumber uint32
	Tenant, Name string
	Prefixes     []netip.Prefix
}

// Subnet is one range of a VPC with the router's address in it.
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
	MAC          MAC
	Interfaces   []Interface // one for each address family at most
	Binding      string      // the attachment that the row is for
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

// Table returns TableVPC.
func (VPC) Table() Table { return TableVPC }

// Table returns TableSubnet.
func (Subnet) Table() Table { return TableSubnet }

// Table returns TablePeer.
func (Peer) Table() Table { return TablePeer }

// Table returns TablePort.
func (Port) Table() Table { return TablePort }

// Table returns TableLocation.
func (Location) Table() Table { return TableLocation }

// Key returns vpc/<vni>.
func (r VPC) Key() string { return fmt.Sprintf("vpc/%d", r.VNI) }

// Key returns subnet/<vni>/<prefix>.
func (r Subnet) Key() string { return fmt.Sprintf("subnet/%d/%s", r.VNI, r.Prefix) }

// Key returns peer/<vni>/<node>.
func (r Peer) Key() string { return fmt.Sprintf("peer/%d/%d", r.VNI, r.Node) }

// Key returns port/<vni>/<tenant>/<name>.
func (r Port) Key() string { return fmt.Sprintf("port/%d/%s/%s", r.VNI, r.Tenant, r.Name) }

// Key returns location/<vni>/<address>.
func (r Location) Key() string { return fmt.Sprintf("location/%d/%s", r.VNI, r.Address) }

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
		r.Subnet == o.Subnet && r.MAC == o.MAC && r.Binding == o.Binding &&
		slices.Equal(r.Interfaces, o.Interfaces) && slices.Equal(r.DNS, o.DNS)
}

// Equal compares all fields.
func (r Location) Equal(other Row) bool { o, ok := other.(Location); return ok && r == o }
